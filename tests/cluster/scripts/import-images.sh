#!/bin/bash
# Inside a node's mount namespace: imports the archives named after the node's number into its containerd, each once.
# import-images.sh <node number> archive...   What was imported is remembered by content, beside the node's disk.
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
i=$1; shift
done_dir=$K/nodes/n$i/imported; mkdir -p "$done_dir"
bad=0
for f in "$@"; do
  sum=$(cat "$f.stamp" 2>/dev/null || sha256sum "$f" | cut -d' ' -f1)
  [ "$(cat "$done_dir/$(basename "$f")" 2>/dev/null)" = "$sum" ] && continue
  if ctr -n k8s.io images import "$f" > "$K/log/import-n$i.log" 2>&1; then
    echo "$sum" > "$done_dir/$(basename "$f")"; echo "n$i: imported $(basename "$f")"
  else
    echo "n$i: importing $f failed; see $K/log/import-n$i.log" >&2; bad=1
  fi
done
exit $bad
