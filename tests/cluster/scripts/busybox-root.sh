#!/bin/bash
# Fills the folder $1 with busybox, its applets as links, and kt, the static test client (kt/main.go).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
. "$SRC/scripts/image-lib.sh"
d=$1
bb=$(command -v busybox) || die "busybox is not installed. Run $SRC/install.sh."
rootfs "$d"
mkdir -p "$d/bin" "$d/tmp" "$d/root"; chmod 1777 "$d/tmp"
cp "$bb" "$d/bin/busybox"
for a in $(busybox --list); do [ "$a" = busybox ] || ln -sf busybox "$d/bin/$a"; done
(cd "$SRC/kt" && CGO_ENABLED=0 GOTOOLCHAIN=local go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$d/bin/kt" .)
