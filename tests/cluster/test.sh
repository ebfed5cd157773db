#!/bin/bash
# make test-cluster: the demo with the debug build of our binary, the tests of tests/e2e
# on the cluster that it leaves, and then its removal, whatever came of it.   E2E='word word' runs only those whose name contains a word.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
export K8S_DIR=${K8S_DIR:-$repo/target/cluster}
began=$SECONDS
# built together, so that nothing is compiled while the cluster waits
(cd "$repo" && cargo build --bin kes --example minio-operator-standin && cargo test --no-run --test e2e)
target=${CARGO_TARGET_DIR:-$repo/target}
export KES_BINARY=$target/debug/kes STANDIN_BINARY=$target/debug/examples/minio-operator-standin
FAILURE_FILE=$(mktemp)
export FAILURE_FILE
trap 'rm -f "$FAILURE_FILE"' EXIT
code=0
"$repo/tests/demo/demo.sh" || code=$?
if [ $code = 0 ]; then
  KUBECONFIG=$K8S_DIR/kubeconfig PATH=$K8S_DIR/bin:$PATH
  if [ -f "$repo/target/kind/kubeconfig" ]; then KUBECONFIG=$repo/target/kind/kubeconfig; fi
  export KUBECONFIG PATH
  echo; echo "== tests/e2e"
  # shellcheck disable=SC2086
  (cd "$repo" && KES_E2E=1 cargo test --test e2e -- ${E2E:-}) || code=$?
fi
if [ $code != 0 ]; then
  "$repo/tests/demo/logs.sh" || true
fi
"$repo/tests/demo/down.sh" || code=1
# at the end, where a person or a CI that keeps the last lines looks first
cat "$FAILURE_FILE"
echo "test-cluster: exit code $code after $((SECONDS - began)) s"
exit $code
