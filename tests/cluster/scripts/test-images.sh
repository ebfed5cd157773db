#!/bin/bash
# Makes the images of our tests and demo as docker-archives in $K8S_DIR/images, from binaries that exist already:
#   kes      localhost/kes:dev                        our binary: $KES_BINARY (default target/release/kes, else target/debug/kes)
#   minio    localhost/minio:test                     the real MinIO server: $PEERS_DIR/minio
#   mc       localhost/mc:test                        busybox, the real mc ($PEERS_DIR/mc) and kt
#   standin  localhost/minio-operator-standin:test    our stand-in for the MinIO Operator: $STANDIN_BINARY
# Usage: test-images.sh [kes] [minio] [mc] [standin]  (default: all). An image whose content is unchanged is skipped.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
. "$SRC/scripts/image-lib.sh"
PEERS_DIR=${PEERS_DIR:-$REPO/target/peers}
TARGET=${CARGO_TARGET_DIR:-$REPO/target}
S=$K/imgsrc; mkdir -p "$S"

# executable FILE HINT
executable() { [ -x "$1" ] || die "$1 is missing. $2"; }

# kes_image BINARY: exactly what `make image` makes, under the name of the tests
kes_image() {
  local out=$I/kes_dev.tar want
  want=$(cat "$1" "$REPO/Containerfile" "$REPO/image/build.sh" "$SRC/scripts/image-lib.sh" | sha256sum | cut -d' ' -f1)
  if [ -f "$out" ] && [ "$(cat "$out.stamp" 2>/dev/null)" = "$want" ]; then echo "image localhost/kes:dev is up to date"; return 0; fi
  rm -f "$out" "$out.stamp"
  env -u BASE KES_BINARY="$1" IMAGE=localhost/kes:dev ARCHIVE="$out" "$REPO/image/build.sh"
  echo "$want" > "$out.stamp"
}

one() {
  local root=$S/$1 binary
  case $1 in
    kes)
      binary=${KES_BINARY:-$TARGET/release/kes}
      if [ -z "${KES_BINARY:-}" ] && [ ! -x "$binary" ]; then binary=$TARGET/debug/kes; fi
      executable "$binary" "Build it with 'cargo build --release', or name another with KES_BINARY."
      kes_image "$binary"
      ;;
    minio)
      binary=$PEERS_DIR/minio
      executable "$binary" "Build it with tests/peers/build.sh minio."
      rootfs "$root"; install_binary "$binary" "$root" /usr/local/bin/minio; mkdir -p "$root/tmp"; chmod 1777 "$root/tmp"
      image minio:test "$root" --entrypoint '["/usr/local/bin/minio"]' --user 1000:1000 --env HOME=/tmp
      ;;
    mc)
      binary=$PEERS_DIR/mc
      executable "$binary" "Build it with tests/peers/build.sh mc."
      "$SRC/scripts/busybox-root.sh" "$root"; install_binary "$binary" "$root" /usr/local/bin/mc
      image mc:test "$root" --entrypoint '[]' --cmd '["/bin/sleep","infinity"]' --user 1000:1000 --env HOME=/tmp
      ;;
    standin)
      binary=${STANDIN_BINARY:-$TARGET/debug/examples/minio-operator-standin}
      executable "$binary" "Build it with 'cargo build --example minio-operator-standin', or name another with STANDIN_BINARY."
      rootfs "$root"; install_binary "$binary" "$root" /usr/local/bin/minio-operator-standin; with_libraries "$root" "$binary"
      image minio-operator-standin:test "$root" --entrypoint '["/usr/local/bin/minio-operator-standin"]' --user 1000:1000
      ;;
    *) die "unknown image '$1'; known are kes minio mc standin" ;;
  esac
}

[ $# -gt 0 ] || set -- kes minio mc standin
for name in "$@"; do one "$name"; done
