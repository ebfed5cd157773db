#!/bin/bash
# Creates the kind cluster of the demo, or leaves it as it is. NOT TESTED by us (see cluster.yaml).
# Environment: KIND_NODE_IMAGE  another node image, for example from a mirror
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/.." && pwd)
for tool in kind kubectl; do
  command -v $tool >/dev/null || {
    echo "kind: a Docker engine answers, but $tool is not installed. Install it (https://kind.sigs.k8s.io, https://kubernetes.io/docs/tasks/tools)," >&2
    echo "kind: or run the demo on local nodes instead: DEMO_CLUSTER=local make demo" >&2
    exit 1
  }
done
mkdir -p "$repo/target/kind"
if ! kind get clusters 2>/dev/null | grep -qx kes-demo; then
  kind create cluster --config "$here/cluster.yaml" --kubeconfig "$repo/target/kind/kubeconfig" --wait 180s ${KIND_NODE_IMAGE:+--image "$KIND_NODE_IMAGE"}
fi
kind get kubeconfig --name kes-demo > "$repo/target/kind/kubeconfig"
chmod 600 "$repo/target/kind/kubeconfig"
echo "kind: up. export KUBECONFIG=$repo/target/kind/kubeconfig"
