#!/bin/bash
# Runs a command against a fresh three-node cluster and deletes the cluster afterwards, whatever happened.
# Usage: with-cluster.sh CMD...     KUBECONFIG and PATH (kubectl) are set for CMD; its exit code is ours.
# Environment: NODES (3), K8S_DIR, API_PORT; KEEP_CLUSTER=1 leaves it running for a look.
set -euo pipefail
NODES=${NODES:-3}; export NODES
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
[ $# -gt 0 ] || die "usage: with-cluster.sh CMD..."
cleanup() {
  code=$?
  trap - EXIT INT TERM
  # logs outlive the cluster: they are what one wants to read after a failure
  rm -rf "$K/last-log"; if [ -d "$K/log" ]; then cp -r "$K/log" "$K/last-log"; fi
  if [ -n "${KEEP_CLUSTER:-}" ]; then
    echo "cluster: left running (KEEP_CLUSTER). KUBECONFIG=$K/kubeconfig; end it with $SRC/down.sh --purge"
  else
    "$SRC/down.sh" --purge
  fi
  echo "cluster: logs of this run are in $K/last-log"
  exit $code
}
"$SRC/install.sh"; "$SRC/build.sh"; "$SRC/scripts/images.sh"
trap cleanup EXIT
trap 'exit 130' INT TERM
"$SRC/down.sh" --purge >/dev/null   # a cluster of an earlier run that was killed
"$SRC/up.sh"
export KUBECONFIG=$K/kubeconfig
"$@"
