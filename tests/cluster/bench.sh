#!/bin/bash
# make bench-cluster: how long a KesCluster takes to be Ready and a Tenant to be verified, and what the operator costs while
# nothing happens. On a cluster of its own, with the optimised build; the report is target/bench/cluster.md.
#
# The second part has CLUSTERS (100) KesClusters with TENANTS (10) MinIO tenants each. A quota keeps their pods from
# starting, so each waits for its pod: passes come every one to two minutes and not every five, and none of them asks a key server.
# Environment: CLUSTERS, TENANTS, SECONDS_OF_REST (120), KES_BINARY and STANDIN_BINARY (default: cargo build --release),
#              KEEP_CLUSTER=1 to measure on the cluster that is there and to leave it
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
export K8S_DIR=${K8S_DIR:-$repo/target/cluster}
CLUSTERS=${CLUSTERS:-100} TENANTS=${TENANTS:-10} REST=${SECONDS_OF_REST:-120} NS=bench
report=$repo/target/bench/cluster.md
work=$(mktemp -d)
mkdir -p "${report%/*}"
finish() {
  code=$?
  trap - EXIT
  rm -rf "$work"
  if [ -n "${KEEP_CLUSTER:-}" ]; then kubectl delete namespace $NS --wait=false >/dev/null 2>&1 || true; else "$repo/tests/demo/down.sh" || code=1; fi
  exit $code
}
trap finish EXIT

if [ -z "${KEEP_CLUSTER:-}" ]; then "$repo/tests/demo/demo.sh" | tee "$work/demo"; else : > "$work/demo"; fi
export KUBECONFIG=$K8S_DIR/kubeconfig PATH=$K8S_DIR/bin:$PATH
outage() { sed -n "s/^ *Tenant of [0-9]* servers served nobody for: *//p" "$work/demo"; }
taken() { sed -n "s/^ *KesCluster applied -> $1: *//p" "$work/demo"; }

echo "== $CLUSTERS KesClusters with $TENANTS tenants each"
{
  echo "{apiVersion: v1, kind: Namespace, metadata: {name: $NS}}"
  echo "---"
  echo "{apiVersion: v1, kind: ResourceQuota, metadata: {name: no-pods, namespace: $NS}, spec: {hard: {pods: '0'}}}"
} | kubectl apply -f - >/dev/null
for c in $(seq "$CLUSTERS"); do
  tenants=
  for t in $(seq "$TENANTS"); do
    tenants="$tenants{name: t-$c-$t, namespace: $NS, keyName: k-$c-$t},"
    # without certificates the stand-in makes nothing of it; a real MinIO Operator would wait for the quota
    echo "---
{apiVersion: minio.min.io/v2, kind: Tenant, metadata: {name: t-$c-$t, namespace: $NS}, spec: {requestAutoCert: true, configuration: {name: none}, pools: [{name: p, servers: 4, volumesPerServer: 1, volumeClaimTemplate: {metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}]}}"
  done
  echo "---
{apiVersion: kes-operator.io/v1alpha1, kind: KesCluster, metadata: {name: c-$c, namespace: $NS}, spec: {tenants: [${tenants%,}]}}"
done > "$work/all.yaml"
began=$SECONDS
kubectl create -f "$work/all.yaml" >/dev/null

# sample FILE: what the operator counts, as one JSON object
sample() {
  local pod
  pod=$(kubectl -n kes-operator get pods -l app.kubernetes.io/name=kes-operator --field-selector=status.phase=Running -o jsonpath='{.items[0].metadata.name}')
  kubectl get --raw "/api/v1/namespaces/kes-operator/pods/$pod:8080/proxy/metrics" | awk '
    /^kes_operator_reconciles_total/ { passes += $NF }
    /^kes_operator_api_requests_total/ { if ($0 ~ /verb="(read|watch)"/) reads += $NF; else if ($0 !~ /leases/) writes += $NF }
    /^kes_operator_resident_memory_bytes/ { rss = $NF }
    /^kes_operator_cpu_seconds/ { cpu = $NF }
    END { printf "{\"passes\": %d, \"reads\": %d, \"writes\": %d, \"rss\": %d, \"cpu\": %f}\n", passes, reads, writes, rss, cpu }' > "$1"
}
settled() { kubectl -n $NS get kesclusters -o json | jq -e --argjson n "$CLUSTERS" '[.items[] | select(.status.observedGeneration == .metadata.generation and (.status.tenants | length) > 0)] | length == $n' >/dev/null; }
until settled; do
  [ $((SECONDS - began)) -lt 900 ] || { echo "bench: the operator has not seen all KesClusters after 900 s" >&2; exit 1; }
  sleep 2
done
echo "all of them were seen after $((SECONDS - began)) s; passes become rarer while pods are waited for"
sleep "${SETTLE:-200}"
sample "$work/before"; from=$(date +%s)
sleep "$REST"
sample "$work/after"; to=$(date +%s)

jq -rn --slurpfile a "$work/before" --slurpfile b "$work/after" --argjson s $((to - from)) --argjson clusters "$CLUSTERS" --argjson tenants "$TENANTS" \
  --arg ready "$(taken Ready)" --arg verified "$(taken 'Tenant verified')" --arg outage "$(outage)" '
  ($a[0]) as $a | ($b[0]) as $b
  | ($b.passes - $a.passes) as $passes | ($b.cpu - $a.cpu) as $cpu
  | "# The operator on a cluster", "",
    "| What | Measured |", "|---|---|",
    (if $ready != "" then "| KesCluster applied → Ready | \($ready) |", "| KesCluster applied → Tenant of four servers verified | \($verified) |", "| it served nobody for | \($outage) |" else empty end),
    "| KesClusters, tenants of each | \($clusters), \($tenants) |",
    "| seconds at rest, passes in them | \($s), \($passes) |",
    "| writes at rest | \($b.writes - $a.writes) |",
    "| reads of one pass | \((($b.reads - $a.reads) / ([$passes, 1] | max) * 10 | round) / 10) |",
    "| CPU of one pass | \(($cpu / ([$passes, 1] | max) * 100000 | round) / 100) ms |",
    "| CPU share, at this rate of passes | \(($cpu / $s * 10000 | round) / 100) % of a core |",
    "| CPU share, at one pass in five minutes each | \(($cpu / ([$passes, 1] | max) * $clusters / 300 * 10000 | round) / 100) % of a core |",
    "| resident memory | \(($b.rss / 1048576 * 10 | round) / 10) MiB |"' | tee "$report"
echo "in $report"
