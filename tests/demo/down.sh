#!/bin/bash
# make demo-down: removes the demo's cluster and everything in it. What was built (binaries, images) stays in target/.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
export K8S_DIR=${K8S_DIR:-$repo/target/cluster}

if command -v kind >/dev/null && kind get clusters 2>/dev/null | grep -qx kes-demo; then
  kind delete cluster --name kes-demo
fi
rm -rf "$repo/target/kind"
"$repo/tests/cluster/down.sh" --purge

# the promise is that nothing is left, so it is looked at and not assumed
left=
ip netns list 2>/dev/null | grep -qE '^(kcp|kn[0-9]+)\b' && left="$left network-namespaces"
grep -q " $K8S_DIR/" /proc/self/mounts && left="$left mounts"
for c in /sys/fs/cgroup/kn[0-9]* /sys/fs/cgroup/*/kn[0-9]*; do [ -d "$c" ] && left="$left $c"; done
if [ -n "$left" ]; then
  echo "demo-down: still there:$left. Another cluster of this kit may be running with its own K8S_DIR." >&2
  exit 1
fi
echo "demo-down: nothing is left behind"
