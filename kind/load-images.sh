#!/bin/bash
# Brings image archives into every node of the demo's kind cluster: load-images.sh ARCHIVE...  NOT TESTED by us.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: load-images.sh ARCHIVE..." >&2; exit 1; }
for archive in "$@"; do
  [ -f "$archive" ] || { echo "kind: there is no image archive $archive" >&2; exit 1; }
  kind load image-archive --name kes-demo "$archive"
done
