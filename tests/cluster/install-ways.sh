#!/bin/bash
# Installs our operator in every way that a user has, one after the other, on the cluster that KUBECONFIG names, and proves
# each time that it works: the operator finishes a change of the sample KesCluster kes-applications/applications, and the
# key server's pod is the same as before. The sample must be Ready already (samples.sh), the image localhost/kes:dev in the
# nodes. The last way is the demo's, so that the cluster is left as it was.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${KUBECONFIG:?install-ways.sh needs KUBECONFIG}"
NS=kes-applications NAME=applications
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
die() { echo "install-ways: $*" >&2; exit 1; }
for tool in helm kubectl jq; do command -v $tool >/dev/null || die "$tool is not in PATH; tests/cluster/build.sh helm kubectl builds it, jq is a package"; done

# What any way installs, but not the definition: with it Kubernetes would delete every KesCluster.
remove() {
  helm -n kes-operator uninstall kes-operator >/dev/null 2>&1 || true
  kubectl -n kes-operator delete deployments,serviceaccounts -l app.kubernetes.io/name=kes-operator >/dev/null
  kubectl delete roles,rolebindings -A -l app.kubernetes.io/name=kes-operator >/dev/null
  kubectl delete clusterroles,clusterrolebindings -l app.kubernetes.io/name=kes-operator >/dev/null
  kubectl -n kes-operator wait --for=delete pods -l app.kubernetes.io/name=kes-operator --timeout=150s >/dev/null
}

# settled: prints what is missing until the operator has finished the spec as it stands now
settled() {
  kubectl -n $NS get kescluster $NAME -o json | jq -er '
    .metadata.generation as $now | ([.spec.enclaves[].keys // [] | length] | add) as $keys
    | ([.status.conditions[]? | select(.type == "Ready")][0] // {}) as $ready
    | if $ready.observedGeneration != $now then "the operator has not seen generation \($now) yet"
      elif $ready.status != "True" then "\($ready.reason): \($ready.message)"
      elif .status.keys != $keys then "\(.status.keys) of \($keys) keys exist"
      else empty end' || true
}

pod() { kubectl -n $NS get pod $NAME-0 -o jsonpath='{.metadata.uid}'; }

# way WHAT COMMAND...
count=0
way() {
  local what=$1 began=$SECONDS before why; shift
  count=$((count + 1))
  before=$(pod)
  remove
  "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; die "$what: installing failed"; }
  kubectl -n kes-operator rollout status deployment/kes-operator --timeout=150s >/dev/null || {
    kubectl -n kes-operator logs deployment/kes-operator --tail=5 >&2 || true
    die "$what: the operator did not become ready"
  }
  # a key that no run made before
  kubectl -n $NS patch kescluster $NAME --type json -p "[{\"op\": \"add\", \"path\": \"/spec/enclaves/1/keys/-\", \"value\": {\"name\": \"way-$count-$(date +%s)\"}}]" >/dev/null
  for _ in $(seq 240); do why=$(settled); [ -n "$why" ] || break; sleep 0.5; done
  [ -z "$why" ] || { kubectl -n kes-operator logs deployment/kes-operator --tail=5 >&2 || true; die "$what: $why"; }
  [ "$(pod)" = "$before" ] || die "$what: the key server's pod is another one, so installing anew restarts key servers"
  echo "installed by $what: works after $((SECONDS - began)) s"
}

# as the comment in config/namespace-scoped says
one_namespace() {
  cp -r "$repo/config" "$repo/crds" "$work/"
  sed -i "s/^namespace: kes\$/namespace: $NS/" "$work/config/namespace-scoped/watched/kustomization.yaml"
  sed -i "s/^  name: kes\$/  name: $NS/" "$work/config/namespace-scoped/watched/namespace.yaml"
  sed -i "s/^          value: kes\$/          value: $NS/" "$work/config/namespace-scoped/operator/kustomization.yaml"
  kubectl apply --server-side --force-conflicts -k "$work/config/namespace-scoped"
}
by_chart() { helm upgrade --install kes-operator "$repo/charts/kes-operator" --namespace kes-operator --set image.tag=dev --take-ownership "$@"; }

way "kustomize, config/default" env DEMO_INSTALL=kustomize "$repo/tests/demo/install.sh"
way "kustomize, config/namespace-scoped" one_namespace
way "Helm, one namespace" by_chart --set "watchNamespaces={$NS}"
way "Helm, hardened" by_chart --values "$repo/charts/kes-operator/values-hardened.yaml" --set image.pullPolicy=IfNotPresent
way "Helm" env DEMO_INSTALL=helm "$repo/tests/demo/install.sh"
