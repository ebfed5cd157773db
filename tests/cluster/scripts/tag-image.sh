#!/bin/bash
# Gives an image that every running node has a second name. Usage: tag-image.sh localhost/kes:dev localhost/kes:next
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
[ $# = 2 ] || die "usage: tag-image.sh IMAGE NAME"
for pf in "$K"/run/n[0-9]*.pid; do
  [ -f "$pf" ] || die "no node is running. Start the cluster with $SRC/up.sh."
  p=$(pgrep -P "$(cat "$pf")" | head -1)
  nsenter -t "$p" -m ctr -n k8s.io images tag --force "$1" "$2" >/dev/null
done
