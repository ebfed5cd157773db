# Our key server and a real MinIO as two processes on loopback. Sourced by local.sh and by tests/minio/test.sh, which set
# WHAT (their name), here, repo, target and PEERS_DIR; see local.sh for what else the environment may say.
. "$repo/tests/demo/lib.sh"
NEXT="read the logs below; run it again with KEEP=1 to keep the state for a look" POLL=0.1
KEY=minio-default-key

for tool in jq awk ps curl timeout sha256sum; do command -v $tool >/dev/null || { echo "$WHAT: $tool is not installed; install it and run this again" >&2; exit 1; }; done
"$repo/tests/peers/build.sh" minio mc
if [ -z "${KES_BINARY:-}" ]; then
  (cd "$repo" && cargo build --quiet --bin kes)
  KES_BINARY=$target/debug/kes
fi

# what a user's own shell says about other servers is not meant for these
for v in $(compgen -e | grep -E '^(MINIO|MC|KES)_' | grep -vxE 'KES_BINARY|KES_PORT|MINIO_PORT'); do unset "$v"; done
umask 077
mkdir -p "$target"
state=$(mktemp -d "$(cd "$target" && pwd)/$WHAT.XXXXXX")
began=$(date +%s)

# ---- processes: everything started has its pid in $state/*.pid, leads a process group of its own, and is ended by it

# launch NAME COMMAND...
launch() {
  local name=$1; shift
  set -m
  "$@" </dev/null >>"$state/$name.log" 2>&1 &
  echo $! > "$state/$name.pid"
  set +m
  disown $!
}
pid() { cat "$state/$1.pid" 2>/dev/null; }
# ours, and not a later process under the same number
runs() { local p; p=$(pid "$1") && [ "$(ps -o ppid= -p "$p" 2>/dev/null | tr -d ' ')" = $$ ] && { [ "$(ps -o stat= -p "$p" | cut -c1)" != Z ] || has_threads "$p"; }; }
# one that waits for a busy disk keeps files and locks after the first thread of its process has ended
has_threads() { [ "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -gt 1 ]; }
gone() { if runs "$1"; then echo "$1 is still running"; return 1; fi; }
# end NAME SIGNAL: asks, and after ten seconds insists; fails when it had to
end() {
  local p deadline=$((SECONDS + 10)) insisted=0
  p=$(pid "$1") || return 0
  if runs "$1"; then kill "-$2" -- "-$p" 2>/dev/null || true; fi
  while runs "$1"; do
    if [ "$SECONDS" -ge "$deadline" ]; then kill -KILL -- "-$p" 2>/dev/null || true; insisted=1; fi
    sleep 0.02
  done
  rm -f "$state/$1.pid"
  return $insisted
}
cleanup() {
  local code=$? f
  trap - EXIT ERR; trap '' INT TERM HUP
  # the key server last: the others may want it to end well
  for f in "$state"/*.pid; do [ ! -e "$f" ] || [ "$f" = "$state/kes.pid" ] || end "$(basename "$f" .pid)" TERM || true; done
  end kes TERM || true
  if [ "${KEEP:-}" = 1 ]; then echo "$WHAT: the state is kept in $state (unseal key, private keys and volumes are in it)" >&2; else rm -rf "$state"; fi
  exit $code
}
trap cleanup EXIT
# also where a function fails
set -E
trap 'echo; echo "Interrupted after $proved proofs." >&2; exit 130' INT
trap 'exit 143' TERM HUP
trap 'code=$?; fail "a command of $WHAT ended with $code: $BASH_COMMAND" "see the message above" "line $LINENO of $0"' ERR
diagnose() {
  local f
  for f in "$state"/*.log; do [ ! -s "$f" ] || { echo "--- last lines of $(basename "$f")"; tail -15 "$f"; }; done
}

milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
since() { local ms=$(($(milliseconds) - $1)); printf '%d.%02d' $((ms / 1000)) $((ms % 1000 / 10)); }

# a port below those that the kernel gives to outgoing connections
taken=
free_port() {
  local p
  for _ in $(seq 100); do
    p=$((20000 + RANDOM % 12000))
    case " $taken " in *" $p "*) continue ;; esac
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null; then taken="$taken $p"; port=$p; return; fi
  done
  fail "no free port was found on loopback" "" "name some with KES_PORT and MINIO_PORT"
}
[ -n "${KES_PORT:-}" ] || { free_port; KES_PORT=$port; }
[ -n "${MINIO_PORT:-}" ] || { free_port; MINIO_PORT=$port; }

# ---- the programs, each with what it needs and nothing else

# a build during the demo shall not change the server that is started again
cp "$KES_BINARY" "$state/kes"
kes() { timeout --foreground 20 "$state/kes" "$@"; }
# as IDENTITY COMMAND...: what `kes` is asked by one of the identities
as() { local who=$1; shift; KES_SERVER=https://127.0.0.1:$KES_PORT KES_CLIENT_KEY=$state/$who.key KES_CLIENT_CERT=$state/$who.crt kes "$@"; }
mc() { MC_HOST_t=http://demo:$password@127.0.0.1:$MINIO_PORT timeout --foreground 20 "$PEERS_DIR/mc" --config-dir "$state/mc" --quiet "$@"; }

# how MinIO shows who it is
minio_identity=("MINIO_KMS_KES_CERT_FILE=$state/app.crt" "MINIO_KMS_KES_KEY_FILE=$state/app.key")
password=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
mkdir -p "$state"/volume/{1..4} "$state/minio-certs"

run_kes() { KES_UNSEAL_KEY=$unseal exec "$state/kes" server "$state/data"; }
run_minio() {
  exec env -i PATH="$PATH" HOME="$state" MINIO_CI_CD=1 MINIO_BROWSER=off MINIO_UPDATE=off \
    MINIO_ROOT_USER=demo MINIO_ROOT_PASSWORD="$password" \
    MINIO_KMS_KES_ENDPOINT="https://127.0.0.1:$KES_PORT" MINIO_KMS_KES_KEY_NAME=$KEY \
    MINIO_KMS_KES_CAPATH="$state/server.crt" "${minio_identity[@]}" \
    "$PEERS_DIR/minio" server --certs-dir "$state/minio-certs" --address "127.0.0.1:$MINIO_PORT" "$state"/volume/{1..4}
}
# asked before a client is, which would pause before it tries again
listens() {
  runs "$1" || { echo "$1 has ended"; return 1; }
  (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null || { echo "$1 does not listen yet"; return 1; }
}
kes_answers() { listens kes "$KES_PORT" || return; as enclave-admin status -k --short 2>&1 >/dev/null; }
minio_answers() {
  listens minio "$MINIO_PORT" || return
  mc --json admin kms key status t $KEY 2>&1 | jq -r --arg k $KEY '
    if .status == "success" and .keyId == $k and (.encryptionError // "") == "" and (.decryptionError // "") == "" then empty
    else (.error.cause.message // .encryptionError // .decryptionError // "no answer yet"), halt_error(1) end' 2>/dev/null
}
start_kes() { launch kes run_kes; await 30 "the key server's answer" kes_answers; }
start_minio() { launch minio run_minio; await 60 "MinIO's answer about the key" minio_answers; }

# digest_of BUCKET/OBJECT: as read through MinIO; fails when the read fails
digest_of() {
  local sum
  sum=$(set -o pipefail; mc cat "t/$1" 2>"$state/read-error.log" | sha256sum) || { tail -1 "$state/read-error.log"; return 1; }
  echo "${sum%% *}"
}
# found MARKER: number of files in the volumes that contain it
found() { { grep -rlF -e "$1" "$state/volume" || true; } | wc -l; }
bytes_under() { find "$state"/volume/*/"$1" -type f -exec cat {} + | wc -c; }

# ---- the recipe: identities, unseal key, kes init

identity() { kes identity of "$state/$1.crt"; }
init_kes() {
  local who
  for who in server system-admin enclave-admin app; do
    kes identity new --key "$state/$who.key" --cert "$state/$who.crt" --ip 127.0.0.1 $who >/dev/null
  done
  unseal=$(head -c 32 /dev/urandom | base64 -w0)
  cat > "$state/init.yml" <<Y
version: v1
address: 127.0.0.1:$KES_PORT
tls:
  key: $state/server.key
  cert: $state/server.crt
system:
  admin:
    identity: $(identity system-admin)
unseal:
  environment:
    name: KES_UNSEAL_KEY
enclave:
  default:
    admin:
      identity: $(identity enclave-admin)
    policy:
      minio:
        allow:
        - /v1/status
        - /v1/key/create/minio-*
        - /v1/key/generate/minio-*
        - /v1/key/decrypt/minio-*
        - /v1/key/bulk/decrypt/minio-*
        - /v1/key/describe/minio-*
        - /v1/key/list/*
Y
  KES_UNSEAL_KEY=$unseal kes init --config "$state/init.yml" "$state/data" >"$state/init.log"
}
