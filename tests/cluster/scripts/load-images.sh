#!/bin/bash
# Imports every archive of $K8S_DIR/images (or those named) into every running node, skipping what a node has already.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
[ $# -gt 0 ] || set -- "$K"/images/*.tar
for f in "$@"; do [ -f "$f" ] || die "there is no image archive $f"; done
jobs=
for pf in "$K"/run/n[0-9]*.pid; do
  [ -f "$pf" ] || die "no node is running. Start the cluster with $SRC/up.sh."
  n=$(basename "$pf" .pid); alive "$n" || die "node $n is not running. Start it with $SRC/up.sh."
  p=$(pgrep -P "$(cat "$pf")" | head -1)
  nsenter -t "$p" -m "$SRC/scripts/import-images.sh" "${n#n}" "$@" & jobs="$jobs $!"
done
for j in $jobs; do wait "$j"; done
