#!/bin/bash
# make test-minio: a real MinIO on our key server, without Kubernetes, in everything for which it asks a key server:
# start-up, keys, sse-kms and sse-s3, multipart, copies, listings, IAM, restarts of either side, the key server away and
# back; first with a certificate, then with an API key. One line per proof; exit code 0 only if all of them held.
#
# Environment: KES_BINARY, PEERS_DIR, KES_PORT, MINIO_PORT, KEEP=1, as for tests/demo/local.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
export PEERS_DIR=${PEERS_DIR:-$repo/target/peers}
WHAT=test-minio
. "$repo/tests/demo/processes.sh"
SECOND=minio-second

# refused MESSAGE COMMAND...: the command fails, and says so
refused() {
  local say=$1 said; shift
  if said=$("$@" 2>&1); then fail "this succeeded and should not have: $*" "$said"; fi
  case $said in *$say*) ;; *) fail "this failed, but not with '$say': $*" "$said" ;; esac
}
digest() { sha256sum "$1" | cut -d' ' -f1; }
holds() { reads_back "$1" "$2" || fail "t/$1 is not what was written" "$(reads_back "$1" "$2" || true)"; }
encryption() { mc --json stat "t/$1" | jq -r '[.metadata | to_entries[] | select(.key | ascii_downcase | startswith("x-amz-server-side-encryption")) | .value] | sort | join(" ")'; }
# good KEY, or why not; for mc it is a success that MinIO said so
status_of() {
  mc --json admin kms key status t "$@" 2>&1 | jq -r '
    (.error.cause.message // .encryptionError // .decryptionError // "") as $why
    | if .status == "success" and $why == "" then "good \(.keyId)" else $why end'
}
health() { curl -s -o /dev/null -w '%{http_code}' --noproxy '*' --max-time 20 "http://127.0.0.1:$MINIO_PORT/minio/health/$1"; }
alice() { MC_HOST_alice=http://alice:$alice_password@127.0.0.1:$MINIO_PORT timeout --foreground 20 "$PEERS_DIR/mc" --config-dir "$state/mc" --quiet "$@"; }

# everything HOW: all of it, from nothing, by a MinIO that shows who it is by HOW, a certificate or an api-key
everything() {
step "a new key server, and a new MinIO with $1"
end minio TERM; end kes TERM
rm -rf "$state"/{data,many,*.crt,*.key} "$state"/volume/*/{*,.minio.sys}
init_kes
start_kes
case $1 in
  certificate)
    app=$(identity app)
    minio_identity=("MINIO_KMS_KES_CERT_FILE=$state/app.crt" "MINIO_KMS_KES_KEY_FILE=$state/app.key") ;;
  api-key)
    api_key=$(kes identity new | grep -oE 'kes:v1:[A-Za-z0-9+/=]+' | head -1)
    app=$(kes identity of "$api_key")
    minio_identity=("MINIO_KMS_KES_API_KEY=$api_key") ;;
esac
as enclave-admin policy assign -k minio "$app"
start_minio
as enclave-admin key info -k --json $KEY | jq -e --arg app "$app" '.created_by == $app' >/dev/null || fail "MinIO did not create its default key itself" "$(as enclave-admin key info -k --json $KEY 2>&1)"
ok "MinIO starts with a key server that has no keys, and creates its default key"

step "keys"
mc admin kms key create t $SECOND >/dev/null
as enclave-admin key info -k --json $SECOND | jq -e --arg app "$app" '.created_by == $app' >/dev/null || fail "mc admin kms key create made no key"
refused 'already exi' mc admin kms key create t $SECOND
refused 'insufficient permissions' mc admin kms key create t other-key
ok "mc admin kms key create makes a key, no second one of the name, and none that the policy does not allow"
[ "$(status_of)" = "good $KEY" ] || fail "mc admin kms key status of the default key" "$(status_of)"
[ "$(status_of $SECOND)" = "good $SECOND" ] || fail "mc admin kms key status of $SECOND" "$(status_of $SECOND)"
case $(status_of minio-missing) in *'does not exist') ;; *) fail "mc admin kms key status of a missing key does not say so" "$(status_of minio-missing)" ;; esac
ok "mc admin kms key status tells a good key from a missing one"
listed=$(mc --json admin kms key list t | jq -r '.. | strings' | grep -cxE "$KEY|$SECOND") || true
[ "$listed" = 2 ] || fail "mc admin kms key list does not show both keys" "$(mc --json admin kms key list t 2>&1)"
ok "mc admin kms key list shows both"
mc --json admin info t | jq -e '.info.services.kmsStatus | length == 1 and .[0].status == "online"' >/dev/null || fail "mc admin info does not show the key server online" "$(mc --json admin info t | jq -c .info.services)"
ok "mc admin info shows the key server online"

step "objects"
mc mb t/kms t/auto t/open >/dev/null
mc encrypt set sse-kms $SECOND t/kms >/dev/null
mc encrypt set sse-s3 t/auto >/dev/null
refused 'does not exist' mc encrypt set sse-kms minio-missing t/open
ok "buckets are set to sse-kms and sse-s3, and not to a key that is missing"
head -c 1000 /dev/urandom > "$state/small"; small=$(digest "$state/small")
# MinIO's client sends what is over 16 MiB in parts
head -c $((33 << 20)) /dev/urandom > "$state/large"; large=$(digest "$state/large")
for bucket in kms auto open; do
  mc cp "$state/small" t/$bucket/small >/dev/null
  mc cp "$state/large" t/$bucket/large >/dev/null
  holds $bucket/small "$small"; holds $bucket/large "$large"
done
[ "$(mc --json stat t/kms/large | jq -r '.etag | split("-")[1]')" = 3 ] || fail "the large object was not sent in three parts" "$(mc --json stat t/kms/large)"
case $(encryption kms/small) in *"$SECOND"*aws:kms* | *aws:kms*"$SECOND"*) ;; *) fail "t/kms/small is not encrypted with $SECOND" "$(encryption kms/small)" ;; esac
[ "$(encryption auto/large)" = AES256 ] || fail "t/auto/large is not encrypted with SSE-S3" "$(encryption auto/large)"
[ -z "$(encryption open/small)" ] || fail "t/open/small is encrypted" "$(encryption open/small)"
ok "objects of 1000 bytes and of 33 MiB in three parts come back the same from each bucket, encrypted as it says"
mc cp t/kms/large t/auto/copied >/dev/null; mc cp t/auto/small t/kms/copied >/dev/null; mc cp t/open/small t/kms/sealed >/dev/null
mc mv t/kms/copied t/kms/moved >/dev/null
holds auto/copied "$large"; holds kms/moved "$small"; holds kms/sealed "$small"
mc cp --enc-kms "t/open/=$KEY" "$state/small" t/open/asked >/dev/null; holds open/asked "$small"
case $(encryption open/asked) in *"$KEY"*) ;; *) fail "the key named with a single object was not used" "$(encryption open/asked)" ;; esac
ok "copies between buckets of different encryption and a key named with one object work"
mkdir "$state/many"; for n in $(seq 60); do echo "$n" > "$state/many/$n"; done
mc cp --recursive "$state/many/" t/auto/many/ >/dev/null
[ "$(mc --json ls t/auto/many/ | jq -r 'select(.etag | test("^[0-9a-f]{32}$")) | .key' | wc -l)" = 60 ] || fail "a listing of 60 encrypted objects is not complete" "$(mc ls t/auto/many/ | tail -3)"
[ "$(mc --json ls t/auto/many/ | jq -r 'select(.key == "1") | .etag')" = "$(echo 1 | md5sum | cut -d' ' -f1)" ] || fail "the ETag in a listing is not the MD5 of the plaintext" "$(mc --json ls t/auto/many/ | head -1)"
ok "a listing shows 60 encrypted objects with the ETags of their plaintexts"

step "users"
alice_password=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
mc admin user add t alice "$alice_password" >/dev/null
mc admin policy attach t readwrite --user alice >/dev/null
alice_reads() { [ "$(alice cat alice/kms/small 2>"$state/alice.log" | sha256sum | cut -d' ' -f1)" = "$small" ] || { tail -1 "$state/alice.log"; return 1; }; }
await 10 "the new user to read" alice_reads
[ "$(bytes_under .minio.sys/config/iam/users/alice)" -gt 0 ] || fail "the user is not on the volumes where she was looked for"
[ "$(found "$alice_password")" = 0 ] || fail "the user's password is on the volumes in clear"
ok "a user that is made reads, and her password is not on the volumes in clear"

step "restarts"
end kes TERM || fail "the key server did not stop within ten seconds of SIGTERM"
start_kes
holds kms/large "$large"; holds auto/small "$small"
mc cp "$state/small" t/kms/after >/dev/null; holds kms/after "$small"
ok "the key server restarted: MinIO reads and writes on without a restart"
end minio TERM || fail "MinIO did not stop within ten seconds of SIGTERM"
start_minio
holds kms/large "$large"; holds auto/copied "$large"
await 20 "the user to read" alice_reads
ok "MinIO restarted: objects and the user are as they were"

step "the key server is away"
end kes TERM || fail "the key server did not stop within ten seconds of SIGTERM"
if digest_of kms/small >/dev/null; then fail "an encrypted object is readable without the key server"; fi
if mc cp "$state/small" t/auto/refused >/dev/null 2>&1; then fail "an object is written encrypted without the key server"; fi
holds open/small "$small"
[ "$(health live)" = 200 ] || fail "MinIO is not alive without the key server" "$(health live)"
case $(health ready) in 5??) ;; *) fail "MinIO calls itself ready without the key server" "$(health ready)" ;; esac
case $(status_of) in good*) fail "mc admin kms key status is a success without the key server" "$(status_of)" ;; esac
ok "encrypted objects are neither read nor written, MinIO is alive and not ready, unencrypted objects are readable"
start_kes
await 20 "the encrypted object" reads_back kms/small "$small"
mc cp "$state/small" t/auto/again >/dev/null; holds auto/again "$small"
ready() { [ "$(health ready)" = 200 ]; }
await 10 "MinIO to be ready" ready
ok "it is back: MinIO reads, writes and is ready, without a restart"
end minio TERM || true
end kes TERM || true
launch minio run_minio
await 30 "MinIO to give up" gone minio
grep -qiE 'kms|kes' "$state/minio.log" || fail "MinIO ended without a word about the key server" "$(tail -3 "$state/minio.log")"
rm -f "$state/minio.pid"
ok "MinIO does not start without the key server, and says why"
start_kes
start_minio
holds kms/small "$small"
end kes KILL || true
start_kes
holds kms/large "$large"
mc cp "$state/large" t/kms/large >/dev/null; holds kms/large "$large"
ok "kill -9 of the key server: MinIO reads and writes on"
}

everything certificate

step "MinIO gets another identity"
api_key=$(kes identity new | grep -oE 'kes:v1:[A-Za-z0-9+/=]+' | head -1)
as enclave-admin policy assign -k minio "$(kes identity of "$api_key")"
as enclave-admin identity rm -k "$(identity app)"
minio_identity=("MINIO_KMS_KES_API_KEY=$api_key")
end minio TERM || fail "MinIO did not stop within ten seconds of SIGTERM"
start_minio
holds kms/large "$large"; holds auto/small "$small"
mc cp "$state/small" t/kms/by-api-key >/dev/null; holds kms/by-api-key "$small"
await 20 "the user to read" alice_reads
[ "$(status_of)" = "good $KEY" ] || fail "mc admin kms key status with an API key" "$(status_of)"
ok "MinIO changes from its certificate to an API key, and its old identity is deleted: everything is as it was"
as enclave-admin identity rm -k "$(kes identity of "$api_key")"
refused 'insufficient permissions' mc cp "$state/small" t/kms/refused
ok "its identity deleted, MinIO is refused at once"

everything api-key

trap - ERR
echo
echo "All $proved proofs held, in $(seconds "$began") s."
