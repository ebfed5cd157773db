#!/bin/bash
# make test-cluster: the demo with the debug build of our binary, and then its removal, whatever came of it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
began=$SECONDS
(cd "$repo" && cargo build --bin kes --example minio-operator-standin)
target=${CARGO_TARGET_DIR:-$repo/target}
export KES_BINARY=$target/debug/kes STANDIN_BINARY=$target/debug/examples/minio-operator-standin
FAILURE_FILE=$(mktemp)
export FAILURE_FILE
trap 'rm -f "$FAILURE_FILE"' EXIT
code=0
"$repo/tests/demo/demo.sh" || code=$?
if [ $code = 0 ]; then
  k=${K8S_DIR:-$repo/target/cluster} kind=$repo/target/kind/kubeconfig
  KUBECONFIG=$(if [ -f "$kind" ]; then echo "$kind"; else echo "$k/kubeconfig"; fi) PATH=$k/bin:$PATH "$here/samples.sh" || code=$?
fi
if [ $code != 0 ]; then
  "$repo/tests/demo/logs.sh" || true
fi
"$repo/tests/demo/down.sh" || code=1
# at the end, where a person or a CI that keeps the last lines looks first
cat "$FAILURE_FILE"
echo "test-cluster: exit code $code after $((SECONDS - began)) s"
exit $code
