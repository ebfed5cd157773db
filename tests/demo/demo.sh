#!/bin/bash
# make demo: a Kubernetes cluster on this machine, our operator in it, an encrypted MinIO, and the proof of it.
# kind where a Docker engine answers; otherwise three local nodes from packages (tests/cluster). The cluster stays
# afterwards for a look; make demo-down removes it.
#
# Environment: KES_BINARY   a binary of ours to put into the image (default: cargo build --release)
#              K8S_DIR, PEERS_DIR, API_PORT, NODES (3), DEMO_CLUSTER=kind|local to choose the cluster,
#              DEMO_INSTALL=helm|kustomize to choose how our operator is installed
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
kit=$repo/tests/cluster
export K8S_DIR=${K8S_DIR:-$repo/target/cluster} PEERS_DIR=${PEERS_DIR:-$repo/target/peers} NODES=${NODES:-3}
began=$(date +%s)
trap 'echo; echo "Interrupted. What was built stays and is not built again; \"make demo\" goes on from here, \"make demo-down\" removes the cluster." >&2; exit 130' INT TERM
step() { echo; echo "== $*"; }

engine() { command -v docker >/dev/null && [ -n "$(docker info --format '{{.ServerVersion}}' 2>/dev/null)" ]; }
cluster=${DEMO_CLUSTER:-$(if engine; then echo kind; else echo local; fi)}

step "programs and packages (the first time this takes a while)"
"$kit/install.sh"
if [ "$cluster" = local ]; then "$kit/build.sh"; fi
export DEMO_INSTALL=${DEMO_INSTALL:-helm} PATH=$PATH:$K8S_DIR/bin
if [ "$DEMO_INSTALL" = helm ] && { [ "$cluster" = local ] || ! command -v helm >/dev/null; }; then "$kit/build.sh" helm; fi
"$repo/tests/peers/build.sh" minio mc
# the stand-in is built in the profile of our binary, or every dependency would be compiled twice
profile=
if [ -z "${KES_BINARY:-}" ]; then
  profile=--release
  (cd "$repo" && cargo build --release --bin kes --example minio-operator-standin)
  export KES_BINARY=${CARGO_TARGET_DIR:-$repo/target}/release/kes STANDIN_BINARY=${CARGO_TARGET_DIR:-$repo/target}/release/examples/minio-operator-standin
elif [ -z "${STANDIN_BINARY:-}" ]; then
  case $KES_BINARY in */release/kes) profile=--release ;; esac
  # shellcheck disable=SC2086
  (cd "$repo" && cargo build $profile --example minio-operator-standin)
  export STANDIN_BINARY=${CARGO_TARGET_DIR:-$repo/target}/$(if [ -n "$profile" ]; then echo release; else echo debug; fi)/examples/minio-operator-standin
fi

step "images"
if [ "$cluster" = local ]; then "$kit/scripts/images.sh"; fi
"$kit/scripts/test-images.sh" kes minio mc standin

step "cluster: $cluster"
images=$(for i in kes_dev minio_test mc_test minio-operator-standin_test; do echo "$K8S_DIR/images/$i.tar"; done)
if [ "$cluster" = kind ]; then
  "$repo/kind/up.sh"
  export KUBECONFIG=$repo/target/kind/kubeconfig LOAD_IMAGES=$repo/kind/load-images.sh
  # a machine with Docker usually reaches a registry: the real MinIO Operator, unless an archive or another was named
  export MINIO_OPERATOR_KUSTOMIZE=${MINIO_OPERATOR_KUSTOMIZE:-github.com/minio/operator?ref=v7.1.1}
else
  "$kit/up.sh"
  export KUBECONFIG=$K8S_DIR/kubeconfig LOAD_IMAGES=$kit/scripts/load-images.sh PATH=$K8S_DIR/bin:$PATH
fi
# shellcheck disable=SC2086
$LOAD_IMAGES $images
echo "cluster and images ready after $(($(date +%s) - began)) s"

code=0
"$here/prove.sh" || code=$?
echo
if [ $code = 0 ]; then
  echo "The cluster is still there: export KUBECONFIG=$KUBECONFIG; make demo-down removes it."
else
  echo "The demo did not hold (exit code $code). The cluster is left for a look: export KUBECONFIG=$KUBECONFIG; make demo-down removes it." >&2
fi
exit $code
