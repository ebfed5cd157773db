#!/bin/bash
# Installs our operator, a Tenant and a KesCluster into the cluster that KUBECONFIG names, and proves with the real mc
# that the tenant's objects are encrypted with our key and stay readable through every restart. One line per proof;
# exit code 0 only if all of them held. The images must be in the nodes already (demo.sh brings them there).
#
# Environment: LOAD_IMAGES (how archives come into the nodes), DEMO_INSTALL (see install.sh), MINIO_* (see tests/cluster/scripts/minio-operator.sh)
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
: "${KUBECONFIG:?prove.sh needs KUBECONFIG; make demo sets it}"
. "$here/lib.sh"

NS=kes KES=kes KEY=minio-default-key
TENANT=myminio TENANT_NS=tenant-lite
KES_PODS=app.kubernetes.io/name=kes,app.kubernetes.io/instance=$KES
MINIO_PODS=v1.min.io/tenant=$TENANT
OUTAGE_GOAL=10 # seconds
began=$(date +%s)

trap 'code=$?; fail "a command of the demo ended with $code: $BASH_COMMAND" "see the message above" "line $LINENO of $0"' ERR
trap 'echo; echo "Interrupted after $proved proofs. The cluster is still there: look at it with KUBECONFIG=$KUBECONFIG, or remove it with \"make demo-down\"." >&2; trap - ERR; exit 130' INT TERM
for tool in kubectl jq; do command -v $tool >/dev/null || fail "$tool is not installed" "" "run tests/cluster/install.sh and tests/cluster/build.sh"; done

step "MinIO Operator"
note "$("$repo/tests/cluster/scripts/minio-operator.sh")"

step "Tenant $TENANT in namespace $TENANT_NS, not encrypted yet"
kubectl apply -f "$repo/config/samples/tenant.yaml" >/dev/null
SERVERS=$(kubectl -n $TENANT_NS get tenant $TENANT -o jsonpath='{.spec.pools[0].servers}')
VOLUMES=$(kubectl -n $TENANT_NS get tenant $TENANT -o jsonpath='{.spec.pools[0].volumesPerServer}')
POOL=$(kubectl -n $TENANT_NS get tenant $TENANT -o jsonpath='{.spec.pools[0].name}')
await 180 "its $SERVERS servers" all_ready $TENANT_NS $MINIO_PODS "$SERVERS"

step "our operator"
installed=$("$here/install.sh"); note "$installed"
await 60 "the API of KesClusters" kubectl wait --for=condition=Established crd/kesclusters.kes-operator.io --timeout=5s
await 120 "the Deployment kes-operator" all_ready kes-operator app.kubernetes.io/name=kes-operator 1

step "somebody reads and writes from now on"
credentials=$(kubectl -n $TENANT_NS get secret storage-configuration -o jsonpath='{.data.config\.env}' | base64 -d)
value() { echo "$credentials" | sed -n "s/^export $1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p"; }
watch_outage
OUTAGE_ALLOWANCE=${OUTAGE_ALLOWANCE:-$(outage_allowance)}
await 90 "its first read and write" outage_watched

step "KesCluster $KES in namespace $NS"
applied=$(date +%s)
kubectl apply -f "$repo/config/samples/kescluster.yaml" >/dev/null
await 180 "the condition Ready" condition Ready
ready=$(seconds "$applied")
await 240 "Tenant $TENANT_NS/$TENANT to be wired and verified" tenant_verified
verified=$(seconds "$applied")
note "KesCluster:"; kubectl -n $NS get kesclusters 2>/dev/null | sed 's/^/     /'

step "proofs, with the real mc"
{
  cat <<Y
apiVersion: v1
kind: Pod
metadata: {name: demo-mc, namespace: $TENANT_NS, labels: {app: demo}}
spec:
  enableServiceLinks: false
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {runAsUser: 1000, runAsGroup: 1000, runAsNonRoot: true}
  containers:
  - name: mc
    image: localhost/mc:test
    imagePullPolicy: IfNotPresent
    env: [{name: MC_HOST_t, value: "http://$(value MINIO_ROOT_USER):$(value MINIO_ROOT_PASSWORD)@minio.$TENANT_NS.svc.cluster.local"}]
Y
  # one pod per server, on its node, sees the server's volumes as plain folders
  for i in $(seq 0 $((SERVERS - 1))); do
    cat <<Y
---
apiVersion: v1
kind: Pod
metadata: {name: demo-look-$i, namespace: $TENANT_NS, labels: {app: demo}}
spec:
  enableServiceLinks: false
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {runAsUser: 1000, runAsGroup: 1000, runAsNonRoot: true}
  containers:
  - name: look
    image: localhost/mc:test
    imagePullPolicy: IfNotPresent
    volumeMounts: [$(for v in $(seq 0 $((VOLUMES - 1))); do printf '{name: v%s, mountPath: /volume/%s, readOnly: true},' "$v" "$v"; done)]
  volumes: [$(for v in $(seq 0 $((VOLUMES - 1))); do printf '{name: v%s, persistentVolumeClaim: {claimName: data%s-%s-%s-%s}},' "$v" "$v" "$TENANT" "$POOL" "$i"; done)]
Y
  done
} | kubectl apply -f - >/dev/null
await 90 "the pods with mc and with a view of the volumes" all_ready $TENANT_NS app=demo $((SERVERS + 1))

# a fresh run finds no object of an earlier one
run=$(head -c 4 /dev/urandom | od -An -tx1 | tr -d ' \n')
OPEN=open-$run SEALED=sealed-$run
marker() { echo "$1-marker-$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')"; }
open_marker=$(marker open) sealed_marker=$(marker sealed)
# over 128 KiB, so that MinIO writes files of its own for it and does not fold it into its metadata
for m in "$open_marker" "$sealed_marker"; do in_pod sh -c "yes 'a line with $m in it' | head -c 400000 > /tmp/$m"; done
digest=$(in_pod sha256sum "/tmp/$sealed_marker" | cut -d' ' -f1)
open_digest=$(in_pod sha256sum "/tmp/$open_marker" | cut -d' ' -f1)

await 130 "reads and writes to go on" outage_over
outage=$(jq -r .total <<<"$(outage_report)")
within=$((OUTAGE_GOAL + OUTAGE_ALLOWANCE))
[ "$(jq --argjson within $within '.total <= $within' <<<"$(outage_report)")" = true ] \
  || fail "while it was wired the tenant served nobody for $outage s" "$within s are allowed: $OUTAGE_GOAL s, and $OUTAGE_ALLOWANCE s more for a loaded machine; every stretch: $(outage_report)" "on a machine that is loaded more than that set OUTAGE_ALLOWANCE"
ok "while it was wired no server answered a read and a write for $outage s in all ($OUTAGE_GOAL s are the goal)"

key_answers() { in_pod timeout 20 mc --json admin kms key status t $KEY | jq -e --arg k $KEY '.status == "success" and .keyId == $k and (.encryptionError // "") == "" and (.decryptionError // "") == ""' >/dev/null; }
await 30 "MinIO's answer about the key" key_answers
ok "the key exists: MinIO encrypts and decrypts with $KEY"

# servers that were restarted together say Ready some seconds before they find each other's drives
await 90 "MinIO to take writes" takes_writes
await 30 "the buckets to be made" in_pod mc --quiet mb --ignore-existing t/$SEALED t/$OPEN
await 60 "the bucket to be set to sse-kms" in_pod mc --quiet encrypt set sse-kms $KEY t/$SEALED
# the server that is asked may not be the one that was told, and hears of it a moment later
names_key() {
  local answer
  answer=$(in_pod mc --json encrypt info t/$SEALED 2>&1) || { echo "${answer:0:200}"; return 1; }
  # not through a pipe: grep -q would end it early, and a broken pipe is a failure here
  grep -q "$KEY" <<<"$answer" || { echo "${answer:0:200}"; return 1; }
}
await 30 "the bucket to name its key" names_key
ok "bucket $SEALED is set to sse-kms with $KEY"

await 60 "the unencrypted object to be put" in_pod mc --quiet cp "/tmp/$open_marker" t/$OPEN/object
await 60 "the object to be put" in_pod mc --quiet cp "/tmp/$sealed_marker" t/$SEALED/object
# for half a minute a server may still have the address of another's former pod (docs/design/operator.md)
await 40 "the object to be read back" reads_back $SEALED/object "$digest"
ok "an object is put there, and is read back the same"

# the search must be able to find: first the object of the bucket without encryption
n=$(found "$open_marker")
[ "$n" -gt 0 ] || fail "the search finds nothing even of an object that is not encrypted" "so it could not find plaintext either" "look at /volume in the pods demo-look-*"
bytes=$(bytes_under "$SEALED/object")
[ "$bytes" -ge 400000 ] || fail "the encrypted object is not on the volumes" "$bytes bytes at $SEALED/object, 400000 or more were expected"
n2=$(found "$sealed_marker")
[ "$n2" = 0 ] || fail "the encrypted object's plaintext is on the volumes" "$n2 files contain its marker"
ok "its bytes on the volumes are not the plaintext: its $bytes bytes show it in 0 files, the unencrypted control shows in $n"

named=$(in_pod mc --json stat t/$SEALED/object | jq -r '.metadata | to_entries[] | select(.key | ascii_downcase == "x-amz-server-side-encryption-aws-kms-key-id") | .value')
[ "${named##*:}" = $KEY ] || fail "mc stat names '$named' as the object's key and not $KEY"
ok "mc stat names our key: $named"

claims() { kubectl -n $NS get pvc -l app.kubernetes.io/instance=$KES -o jsonpath='{range .items[*]}{.metadata.uid}={.spec.volumeName} {end}'; }
members=$(kubectl -n $NS get sts $KES -o jsonpath='{.spec.replicas}')
old=$(uids $NS $KES_PODS) volumes=$(claims)
[ -n "$old" ] || fail "no pod has the labels $KES_PODS"
[ -n "$volumes" ] || volumes=$(kubectl -n $NS get pvc -o jsonpath='{range .items[*]}{.metadata.uid}={.spec.volumeName} {end}')
kubectl -n $NS delete pods -l $KES_PODS --wait=false >/dev/null
await 120 "new pods of the key service" all_ready $NS $KES_PODS "$members" "$old"
[ "$(claims)" = "$volumes" ] || [ "$(kubectl -n $NS get pvc -o jsonpath='{range .items[*]}{.metadata.uid}={.spec.volumeName} {end}')" = "$volumes" ] \
  || fail "the key service came back on another volume" "before: $volumes; now: $(claims)"
ok "every pod of the key service was deleted and came back on its volume"
await 60 "the object to be readable" reads_back $SEALED/object "$digest"
ok "the object is still readable"

old=$(uids $TENANT_NS $MINIO_PODS)
kubectl -n $TENANT_NS delete pods -l $MINIO_PODS --wait=false >/dev/null
await 180 "new MinIO pods" all_ready $TENANT_NS $MINIO_PODS "$SERVERS" "$old"
await 60 "the object to be readable" reads_back $SEALED/object "$digest"
ok "MinIO restarted, all $SERVERS servers, and still reads it"

address=$(in_pod mc --json share download t/$SEALED/object | jq -r .share)
case $(in_pod kt ask "$address") in 200\ *) ;; *) fail "the object cannot be read at its signed address" "$(in_pod kt ask "$address")" ;; esac
# paused first, or the operator would put the members back as is its duty
kubectl -n $NS patch kescluster $KES --type merge -p '{"spec":{"paused":true}}' >/dev/null
await 30 "the operator to pause" condition Paused
kubectl -n $NS scale sts $KES --replicas=0 >/dev/null
await 90 "the key service to be gone" none_left $NS $KES_PODS
# MinIO's own answer to a plain GET of the signed address shows why; mc, which retries, shows that nothing comes through
refused() {
  local answer
  answer=$(in_pod kt ask "$address") || true
  echo "the answer is: ${answer:0:300}"
  case $answer in 5??' '*'<Error>'*) return 0 ;; *) return 1 ;; esac
}
await 60 "reads to fail" refused
reason=$(in_pod kt ask "$address" | sed -n 's#.*<Code>\(.*\)</Code>.*#\1#p')
if digest_of $SEALED/object >/dev/null 2>&1; then fail "mc could read the encrypted object without the key service"; fi
# the control is read at the same moment: MinIO is well, it only lacks the key
reads_back $OPEN/object "$open_digest" || fail "with the key service away the unencrypted object cannot be read either" "so the failed read proves nothing about encryption"
ok "with the key service scaled to zero its read fails ($reason), while the unencrypted object is readable"

kubectl -n $NS patch kescluster $KES --type merge -p '{"spec":{"paused":false}}' >/dev/null
await 120 "the operator to bring the key service back" all_ready $NS $KES_PODS "$members"
await 60 "the condition Ready" condition Ready
await 60 "the object to be readable" reads_back $SEALED/object "$digest"
ok "after unpausing the key service is back and the read works again"

kubectl -n $TENANT_NS delete pods -l app=demo --wait=false >/dev/null
trap - ERR
echo
echo "All $proved proofs held, in $(seconds "$began") s."
echo "  KesCluster applied -> Ready:            $ready s"
echo "  KesCluster applied -> Tenant verified:  $verified s"
echo "  Tenant of $SERVERS servers served nobody for: $outage s"
