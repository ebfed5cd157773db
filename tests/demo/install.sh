#!/bin/bash
# Installs our operator into the cluster that KUBECONFIG names, with the image localhost/kes:dev.
# Environment: DEMO_INSTALL  helm (charts/kes-operator, the default) or kustomize (config/default)
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
case ${DEMO_INSTALL:=helm} in
  helm)
    command -v helm >/dev/null || { echo "helm is not installed; tests/cluster/build.sh helm builds it, or choose DEMO_INSTALL=kustomize" >&2; exit 1; }
    # Helm could make the namespace, and not label it
    kubectl apply --server-side --force-conflicts -f "$repo/config/manager/namespace.yaml" >/dev/null
    # what the other way of installing left is taken over
    helm upgrade --install kes-operator "$repo/charts/kes-operator" --namespace kes-operator --set image.tag=dev --take-ownership >/dev/null
    echo "installed by Helm: charts/kes-operator"
    ;;
  kustomize)
    kubectl apply --server-side --force-conflicts -k "$repo/config/default" >/dev/null
    echo "installed by kustomize: config/default"
    ;;
  *) echo "DEMO_INSTALL is '$DEMO_INSTALL'; it can be helm or kustomize" >&2; exit 1 ;;
esac
