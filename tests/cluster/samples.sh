#!/bin/bash
# Applies every sample of config/samples to the cluster that KUBECONFIG names, as a user would: first the commands that
# a sample's comment asks for, then the sample, and then each of its KesClusters has to become Ready. Our operator and
# what serves Tenants must be there already (tests/demo leaves them). Usage: samples.sh [file...]  (default: all)
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${KUBECONFIG:?samples.sh needs KUBECONFIG}"
[ $# -gt 0 ] || { set -- "$repo"/config/samples/*.yaml; }
bad=
for sample in "$@"; do
  name=$(basename "$sample")
  [ "$name" != kustomization.yaml ] || continue
  began=$SECONDS
  while read -r command; do
    # one that was run before is not run again
    out=$(bash -euo pipefail -c "$command" 2>&1) || case $out in *AlreadyExists*|*"already exists"*) ;; *) echo "$name: '$command' failed: $out" >&2; bad="$bad $name"; continue 2 ;; esac
  done < <(sed -n 's/^# \$ //p' "$sample")
  # strict: a field that the definition does not know is an error and not a warning
  if ! out=$(kubectl apply --validate=strict -f "$sample" 2>&1); then
    echo "$name: the API server refuses it: $out" >&2; bad="$bad $name"; continue
  fi
  for cluster in $(kubectl get -f "$sample" -o json | jq -r '[.items // [.] | .[] | select(.kind == "KesCluster") | "\(.metadata.namespace)/\(.metadata.name)"] | .[]'); do
    if ! kubectl -n "${cluster%/*}" wait --for=condition=Ready "kescluster/${cluster#*/}" --timeout=180s >/dev/null; then
      kubectl -n "${cluster%/*}" get kescluster "${cluster#*/}" -o json | jq -r '.status.conditions[]? | "  \(.type)=\(.status) \(.reason): \(.message)"' >&2
      echo "$name: KesCluster $cluster did not become Ready" >&2; bad="$bad $name"; continue 2
    fi
  done
  echo "sample $name: applied and well after $((SECONDS - began)) s"
done
[ -z "$bad" ] || { echo "samples that do not work:$bad" >&2; exit 1; }
