#!/bin/bash
# Makes the images that the cluster itself needs, as docker-archives in $K8S_DIR/images: pause, busybox (with the
# test client kt), CoreDNS, local-path-provisioner. Every node imports these when it starts;
# the images of tests are brought by load-images.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
. "$SRC/scripts/image-lib.sh"
S=$K/imgsrc; mkdir -p "$S"

if [ ! -f "$S/pause/pause" ]; then
  mkdir -p "$S/pause"
  gcc -Os -Wall -static -DVERSION=3.10 -o "$S/pause/pause" "$(cd "$SRC/tools" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/build/pause/linux/pause.c"
fi
image pause:3.10 "$S/pause" --entrypoint '["/pause"]'

"$SRC/scripts/busybox-root.sh" "$S/busybox"
image busybox:1.35 "$S/busybox" --entrypoint '[]'

for b in coredns local-path-provisioner; do
  [ -x "$K/bin/$b" ] || die "$K/bin/$b is missing. Run $SRC/build.sh first."
  mkdir -p "$S/$b"; cp -u "$K/bin/$b" "$S/$b/$b"
done
image coredns:1.12 "$S/coredns" --entrypoint '["/coredns"]'
image local-path-provisioner:0.0.30 "$S/local-path-provisioner" --entrypoint '["/local-path-provisioner"]'
