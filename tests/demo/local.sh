#!/bin/bash
# make demo-local: the recipe by hand, without Kubernetes. Our key server and a real MinIO as two processes on loopback,
# and the proof that objects are encrypted with our key and that nothing acknowledged is lost when both are killed with
# kill -9 during writes. One line per proof; exit code 0 only if all of them held.
#
# Environment: KES_BINARY   a binary of ours (default: cargo build)
#              PEERS_DIR    where minio and mc are (default: target/peers, built there when missing)
#              KES_PORT, MINIO_PORT   (default: free ones)
#              KEEP=1       the state stays: keys, volumes, logs
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
export PEERS_DIR=${PEERS_DIR:-$repo/target/peers}
WHAT=demo-local
. "$here/processes.sh"
OPEN=open SEALED=sealed

step "identities, unseal key, kes init"
init_kes

step "kes server on 127.0.0.1:$KES_PORT"
t=$(milliseconds); start_kes; kes_ready=$(since "$t")
as enclave-admin key create -k $KEY
if as app key dek -k $KEY >/dev/null 2>"$state/refused.log"; then fail "MinIO's identity may use $KEY without a policy"; fi
grep -q 'not authorized' "$state/refused.log" || fail "MinIO's identity, still without a policy, was not refused as it should" "$(cat "$state/refused.log")"
as enclave-admin policy assign -k minio "$(identity app)"
as enclave-admin key ls -k --json | jq -r '.Name // .name' | grep -x $KEY >/dev/null || fail "kes key ls does not show $KEY"
as app key dek -k $KEY | jq -e '.plaintext != "" and .ciphertext != ""' >/dev/null || fail "MinIO's identity cannot use $KEY"

step "MinIO on 127.0.0.1:$MINIO_PORT, wired by its environment"
t=$(milliseconds); start_minio; minio_ready=$(since "$t")

step "proofs, with the real mc"
ok "the key exists: MinIO encrypts and decrypts with $KEY, with an identity that was refused before it had the policy"

mc mb t/$SEALED t/$OPEN >/dev/null
mc encrypt set sse-kms $KEY t/$SEALED >/dev/null
mc --json encrypt info t/$SEALED | grep "$KEY" >/dev/null || fail "the bucket is not set to sse-kms with $KEY" "$(mc encrypt info t/$SEALED 2>&1)"
ok "bucket $SEALED is set to sse-kms with $KEY"

marker() { echo "$1-marker-$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')"; }
open_marker=$(marker open) sealed_marker=$(marker sealed)
# over 128 KiB, so that MinIO writes files of its own for it and does not fold it into its metadata
content() { awk -v line="a line with $1 in it" 'BEGIN { for (n = 0; n < 400000; n += length(line) + 1) print line }'; }
content "$sealed_marker" > "$state/sealed.txt"; digest=$(sha256sum "$state/sealed.txt" | cut -d' ' -f1)
content "$open_marker" > "$state/open.txt"; open_digest=$(sha256sum "$state/open.txt" | cut -d' ' -f1)
mc cp "$state/open.txt" t/$OPEN/object >/dev/null
mc cp "$state/sealed.txt" t/$SEALED/object >/dev/null
reads_back $SEALED/object "$digest" || fail "the object cannot be read back right after it was put"
ok "an object of $(stat -c %s "$state/sealed.txt") bytes with a unique marker is put there, and is read back the same"

# the search must be able to find: first the object of the bucket without encryption
n=$(found "$open_marker")
[ "$n" -gt 0 ] || fail "the search finds nothing even of an object that is not encrypted" "so it could not find plaintext either"
bytes=$(bytes_under $SEALED/object)
[ "$bytes" -ge 400000 ] || fail "the encrypted object is not on the volumes" "$bytes bytes at $SEALED/object, 400000 or more were expected"
n2=$(found "$sealed_marker")
[ "$n2" = 0 ] || fail "the encrypted object's plaintext is on the volumes" "$n2 files contain its marker"
ok "its bytes on the volumes are not the plaintext: its $bytes bytes show it in 0 files, the unencrypted control shows in $n"

named=$(mc --json stat t/$SEALED/object | jq -r '.metadata | to_entries[] | select(.key | ascii_downcase == "x-amz-server-side-encryption-aws-kms-key-id") | .value')
[ "${named##*:}" = $KEY ] || fail "mc stat names '$named' as the object's key and not $KEY"
ok "mc stat names our key: $named"

# Writers that end at their first failure. What was acknowledged is noted after the answer, never before it: a key's
# name, then a data key made with it; an object's name.
write_keys() {
  local i=0 dek
  while i=$((i + 1)); do
    as enclave-admin key create -k "load-$1-$i" || return
    echo "load-$1-$i" >> "$state/keys.acknowledged"
    dek=$(as enclave-admin key dek -k "load-$1-$i") || return
    echo "load-$1-$i $(jq -r '"\(.ciphertext) \(.plaintext)"' <<<"$dek")" >> "$state/deks.acknowledged"
  done
}
write_objects() {
  local i=0
  while i=$((i + 1)); do
    mc cp "$state/sealed.txt" "t/$SEALED/load-$1-$i" >/dev/null || return
    echo "load-$1-$i" >> "$state/objects.acknowledged"
  done
}
count() { wc -l < "$state/$1.acknowledged"; }
touch "$state"/{keys,deks,objects}.acknowledged
writers=(write-keys-1 write-keys-2 write-objects-1 write-objects-2)
launch write-keys-1 write_keys 1; launch write-keys-2 write_keys 2
launch write-objects-1 write_objects 1; launch write-objects-2 write_objects 2
writing() {
  local w
  for w in "${writers[@]}"; do runs "$w" || { echo "the writer $w has ended: $(tail -1 "$state/$w.log")"; return 1; }; done
}
enough() { writing || return; echo "keys and objects are being written"; [ "$(count deks)" -ge 30 ] && [ "$(count objects)" -ge 6 ]; }
await 60 "30 keys and 6 objects to be acknowledged" enough
writing >/dev/null || fail "the writers did not last until the kill" "$(writing)"
t=$(milliseconds)
kill -KILL "$(pid kes)" "$(pid minio)"
for w in "${writers[@]}"; do end "$w" TERM || true; done
await 10 "the key server to be gone" gone kes
await 10 "MinIO to be gone" gone minio
keys=$(count keys) deks=$(count deks) objects=$(count objects)
start_kes
start_minio
await 30 "the object to be readable" reads_back $SEALED/object "$digest"
recovered=$(since "$t")
ok "kill -9 of the key server and of MinIO during writes, both started again: the object is still readable"

as enclave-admin key ls -k --json | jq -r '.Name // .name' | sort > "$state/keys.listed"
lost=$(sort "$state/keys.acknowledged" | comm -23 - "$state/keys.listed")
[ -z "$lost" ] || fail "keys that were acknowledged before the kill are lost" "$(echo "$lost" | head -5 | tr '\n' ' ')($(echo "$lost" | wc -l) of $keys)"
while read -r name ciphertext plaintext; do
  [ "$(as enclave-admin key decrypt -k "$name" "$ciphertext" | jq -r .plaintext)" = "$plaintext" ] || fail "the key $name is there but not with the material it had before the kill"
done < "$state/deks.acknowledged"
ok "all $keys keys acknowledged before the kill are there, and $deks data keys made with them open to the same bytes"
while read -r name; do
  reads_back $SEALED/"$name" "$digest" || fail "the object $SEALED/$name was acknowledged before the kill and cannot be read"
done < "$state/objects.acknowledged"
ok "all $objects objects acknowledged before the kill are readable and unchanged"

# MinIO's own answer to a plain GET of the signed address shows why; mc, which retries, shows that nothing comes through
address=$(mc --json share download --expire 1h t/$SEALED/object | jq -r .share)
ask() { curl -sS --noproxy '*' --max-time 20 -w ' %{http_code}' "$@" "$address" 2>&1; }
case $(ask -o /dev/null) in *' 200') ;; *) fail "the object cannot be read at its signed address" "$(ask -o /dev/null)" ;; esac
end kes TERM || fail "the key server did not stop within ten seconds of SIGTERM"
note "reading the object, which mc tries for some seconds"
answer=$(ask -o "$state/answer") || true
case $answer in *' 5'??) ;; *) fail "MinIO does not refuse the encrypted object without the key server" "the answer is:$answer" ;; esac
reason=$(sed -n 's#.*<Code>\(.*\)</Code>.*#\1#p' "$state/answer")
if digest_of $SEALED/object >/dev/null; then fail "mc could read the encrypted object without the key server"; fi
# the control is read at the same moment: MinIO is well, it only lacks the key
reads_back $OPEN/object "$open_digest" || fail "with the key server stopped the unencrypted object cannot be read either" "so the failed read proves nothing about encryption"
ok "with the key server stopped its read fails (${answer##* } $reason), while the unencrypted object is readable"
start_kes
await 30 "the object to be readable" reads_back $SEALED/object "$digest"
ok "with the key server started again the read works"

trap - ERR
echo
echo "All $proved proofs held, in $(seconds "$began") s."
echo "  kes server started -> answers:                 $kes_ready s"
echo "  MinIO started -> encrypts with our key:        $minio_ready s"
echo "  kill -9 of both -> the object readable again:  $recovered s"
