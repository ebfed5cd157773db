# Words of the demo: lines that are printed, waits that have a name and a deadline, questions to the cluster.
# Sourced by prove.sh, and by local.sh, which has its own diagnose and questions, and sets NEXT and POLL.

seconds() { echo $(($(date +%s) - $1)); }
step() { echo; echo "== $*"; }
note() { echo "   $*"; }
ok() { proved=$((proved + 1)); printf ' ok %2d  %s\n' "$proved" "$*"; }
proved=0

# fail WHAT WHY NEXT: ends the demo with everything a person needs to go on
fail() {
  trap - ERR
  echo >&2
  echo "FAILED: $1" >&2
  [ -z "${2:-}" ] || echo "  why:  $2" >&2
  echo "  next: ${3:-${NEXT:-read the state below; the cluster is left running for a look}}" >&2
  # whoever prints more after this can end with the reason (FAILURE_FILE)
  [ -z "${FAILURE_FILE:-}" ] || printf 'FAILED: %s\n  why:  %s\n' "$1" "${2:-see above}" > "$FAILURE_FILE"
  diagnose >&2
  exit 1
}

diagnose() {
  echo "--- state at the failure (KUBECONFIG=$KUBECONFIG)"
  kubectl -n "$NS" get kesclusters -o json 2>/dev/null | jq -r '.items[] | .metadata.name as $n | (.status.conditions[]? | "\($n): \(.type)=\(.status) \(.reason): \(.message)"), (.status.tenants[]? | "tenant \(.namespace)/\(.name): \(.phase) \(.reason): \(.message)")' || true
  kubectl get pods -A -o wide 2>/dev/null | grep -v ' kube-system ' || true
  for what in deploy/kes-operator; do
    echo "--- last lines of kes-operator/$what"; kubectl -n kes-operator logs "$what" --tail=15 2>/dev/null || true
  done
  echo "--- last lines of $NS/$KES-0"; kubectl -n "$NS" logs "$KES-0" --tail=10 2>/dev/null || true
}

# await SECONDS WHAT COMMAND...: polls COMMAND until it succeeds; what it prints is the reason for waiting, and each
# new reason becomes a line. WHAT is a noun phrase.
await() {
  local deadline=$((SECONDS + $1)) what=$2 started reason= last=
  shift 2; started=$(date +%s)
  note "waiting for $what"
  while ! reason=$("$@" 2>&1); do
    if [ "$reason" != "$last" ] && [ -n "$reason" ]; then note "    $(seconds "$started") s: $(echo "$reason" | tail -1)"; last=$reason; fi
    [ "$SECONDS" -lt "$deadline" ] || fail "$what did not come in time" "${reason:-no reason was given}"
    sleep "${POLL:-0.5}"
  done
  note "    there after $(seconds "$started") s${reason:+: $(echo "$reason" | tail -1)}"
}

# condition TYPE: succeeds when the KesCluster's condition is True for its present spec; prints its reason
condition() {
  local answer
  answer=$(kubectl -n "$NS" get kescluster "$KES" -o json | jq -r --arg type "$1" '
    .metadata.generation as $now
    | [.status.conditions[]? | select(.type == $type)][0]
    | if . == null then "Unknown|the operator has not said anything about it yet"
      elif (.observedGeneration // $now) != $now then "Unknown|the operator has not seen the last change yet"
      else "\(.status)|\(.reason): \(.message)" end')
  echo "${answer#*|}"
  [ "${answer%%|*}" = True ]
}

tenant_verified() {
  local phase
  phase=$(kubectl -n "$NS" get kescluster "$KES" -o json | jq -r --arg n "$TENANT" --arg ns "$TENANT_NS" '
    [.status.tenants[]? | select(.name == $n and .namespace == $ns)][0] | if . == null then "the operator has not looked at it yet" else "\(.phase) (\(.reason)) \(.message)" end')
  echo "$phase"
  case $phase in Verified*) condition TenantsWired >/dev/null ;; *) return 1 ;; esac
}

# all_ready NAMESPACE SELECTOR COUNT [UIDS]: COUNT pods, all Ready, none of them one of UIDS
all_ready() {
  local answer
  answer=$(kubectl -n "$1" get pods -l "$2" -o json | jq -r --argjson want "$3" --arg old "${4:-}" '
    ($old | split(" ")) as $old
    | [.items[] | select(.metadata.deletionTimestamp == null) | select(.metadata.uid as $u | $old | index($u) | not)
       | {name: .metadata.name,
          ready: any(.status.conditions[]?; .type == "Ready" and .status == "True"),
          why: ([.status.initContainerStatuses[]?, .status.containerStatuses[]? | .state.waiting.reason // empty][0] // .status.phase)}]
    | (map(select(.ready)) | length) as $ready
    | "\($ready == $want)|\($ready) of \($want) pods Ready" + (map(select(.ready | not) | ", \(.name) \(.why)") | join(""))')
  echo "${answer#*|}"
  [ "${answer%%|*}" = true ]
}

uids() { kubectl -n "$1" get pods -l "$2" -o jsonpath='{.items[*].metadata.uid}'; }
none_left() {
  local n; n=$(kubectl -n "$1" get pods -l "$2" --no-headers 2>/dev/null | wc -l)
  echo "$n pod(s) still there"; [ "$n" = 0 ]
}

# in_pod COMMAND...: in the pod with mc; the alias t is the tenant
in_pod() { kubectl -n "$TENANT_NS" exec demo-mc -- "$@"; }
# digest_of BUCKET/OBJECT: as read through MinIO, in at most 10 seconds, for mc retries without end; fails when the read fails
digest_of() { in_pod sh -c "set -o pipefail; timeout 10 mc --quiet cat t/$1 2>/tmp/error | sha256sum | cut -d' ' -f1 || { cat /tmp/error >&2; exit 1; }"; }
reads_back() {
  local got
  got=$(digest_of "$1") || { echo "the read fails: $got"; return 1; }
  [ "$got" = "$2" ] || { echo "what is read is not what was written"; return 1; }
}

# takes_writes: MinIO has the drives that a write needs
takes_writes() {
  local answer
  answer=$(in_pod kt ask "http://minio.$TENANT_NS.svc.cluster.local/minio/health/cluster") || true
  echo "/minio/health/cluster answers ${answer:0:200}"
  case $answer in 200*) ;; *) return 1 ;; esac
}

# found MARKER: number of files in all volumes of the tenant that contain it
found() {
  local total=0 n i
  for i in $(seq 0 $((SERVERS - 1))); do
    n=$(kubectl -n "$TENANT_NS" exec "demo-look-$i" -- sh -c "grep -rlF -e '$1' /volume | wc -l") || return 1
    total=$((total + n))
  done
  echo "$total"
}
# bytes_under PATH: of all files at that path in all volumes of the tenant
bytes_under() {
  local total=0 n i
  for i in $(seq 0 $((SERVERS - 1))); do
    n=$(kubectl -n "$TENANT_NS" exec "demo-look-$i" -- sh -c "find /volume/*/$1 -type f -exec cat {} + 2>/dev/null | wc -c") || return 1
    total=$((total + n))
  done
  echo "$total"
}

# watch_outage: a pod that reads and writes through every server ten times a second, from now until the tenant served
# nobody for a while and then served again for three seconds, or until two minutes have passed
watch_outage() {
  local i endpoints="minio.$TENANT_NS.svc.cluster.local:80"
  for i in $(seq 0 $((SERVERS - 1))); do endpoints="$endpoints $TENANT-$POOL-$i.$TENANT-hl.$TENANT_NS.svc.cluster.local:9000"; done
  kubectl -n "$TENANT_NS" delete pod demo-outage --ignore-not-found >/dev/null
  kubectl apply -f - >/dev/null <<Y
apiVersion: v1
kind: Pod
metadata: {name: demo-outage, namespace: $TENANT_NS, labels: {app: demo-outage}}
spec:
  restartPolicy: Never
  enableServiceLinks: false
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {runAsUser: 1000, runAsGroup: 1000, runAsNonRoot: true}
  initContainers:
  - name: bucket
    image: localhost/mc:test
    imagePullPolicy: IfNotPresent
    env: [{name: MC_HOST_t, value: "http://$(value MINIO_ROOT_USER):$(value MINIO_ROOT_PASSWORD)@minio.$TENANT_NS.svc.cluster.local"}]
    # servers are Ready some seconds before they take writes
    command: [sh, -c, "until mc --quiet mb --ignore-existing t/outage && mc --quiet anonymous set public t/outage && echo here | mc --quiet pipe t/outage/object; do sleep 0.2; done"]
  containers:
  - name: measure
    image: localhost/mc:test
    imagePullPolicy: IfNotPresent
    command: [kt, outage, 3s, 120s, /outage/object, $(echo "$endpoints" | sed 's/ /, /g')]
Y
}
# outage_allowance: seconds beyond the goal, which is for free cores. Four servers start at once, each of which takes about
# two seconds of a core: five seconds more where there are two. Where other work waits for the cores as well, everything
# takes as many times longer as processes wait for a core: so many times the goal.
outage_allowance() { awk -v goal="$OUTAGE_GOAL" -v cores="$(nproc)" '{ wait = $1 / cores - 1; printf "%d\n", 5 + goal * (wait > 0 ? wait : 0) }' /proc/loadavg; }
outage_watched() { kubectl -n "$TENANT_NS" logs demo-outage -c measure 2>/dev/null | grep -q serving || { kubectl -n "$TENANT_NS" get pod demo-outage --no-headers; return 1; }; }
outage_report() { kubectl -n "$TENANT_NS" logs demo-outage -c measure | sed -n '/^{/p'; }
outage_over() { [ -n "$(outage_report)" ] || { echo "it has not been over for three seconds yet, and its last answers may still come"; return 1; }; }
