#!/bin/bash
# make image: our image as an OCI archive, from a binary that is built already. Needs buildah, no engine and no registry:
# the image is empty but for the binary, the C library it is linked to, CA certificates and an account.
# Prints where the archive is and how large the image is, and fails when it is larger than MAX_MB.
#
# Environment: KES_BINARY  the binary (default: target/release/kes)
#              IMAGE       the name inside the archive (default: localhost/kes:VERSION)
#              ARCHIVE     the archive (default: target/image/kes-VERSION.tar)
#              BASE        an image to start from (default: scratch). With it come its libraries, and only the binary is copied
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/.." && pwd)
MAX_MB=60
die() { echo "image: $*" >&2; exit 1; }
. "$repo/tests/cluster/scripts/image-lib.sh"

target=${CARGO_TARGET_DIR:-$repo/target}
binary=${KES_BINARY:-$target/release/kes}
# a build of the tests is larger, and nobody installs it
case $binary in */debug/*) MAX_MB=120 ;; esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$repo/Cargo.toml" | head -1)
name=${IMAGE:-localhost/kes:$version}
archive=${ARCHIVE:-$target/image/kes-$version.tar}
base=${BASE:-scratch}
[ -x "$binary" ] || die "there is no binary $binary. Build it with 'make build', or name another with KES_BINARY."
command -v buildah >/dev/null || die "buildah is not installed. Install it (apt-get install buildah), or use an engine: docker build -f Containerfile ."

work=$(mktemp -d)
# layers belong to an account of the build, so only buildah itself may be able to remove them
trap 'buildah --root "$work/store" --runroot "$work/run" rmi -af >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
root=$work/root
if [ "$base" = scratch ]; then
  rootfs "$root"
  with_libraries "$root" "$binary"
else
  mkdir -p "$root/usr/local/bin"
fi
install_binary "$binary" "$root" /usr/local/bin/kes
# where it is possible: does it start with nothing but what is in the image?
if [ "$base" = scratch ] && [ "$(id -u)" = 0 ]; then
  chroot "$root" /usr/local/bin/kes --version >/dev/null || die "the binary does not start with the libraries in the image; see above"
fi

mkdir -p "$(dirname "$archive")"
rm -f "$archive"
# the same files make the same image, whenever it is built
find "$root" -exec touch -hd @0 {} +
log=$work/log
buildah --root "$work/store" --runroot "$work/run" bud --timestamp 0 --format oci --file "$repo/Containerfile" \
  --build-arg BASE="$base" --build-arg ROOT=prepared --label "org.opencontainers.image.version=$version" \
  --tag "oci-archive:$archive:$name" "$root" > "$log" 2>&1 || { tail -20 "$log" >&2; die "buildah could not build it"; }

size=$(find "$root" -type f -printf '%s\n' | awk '{s += $1} END {print s}')
echo "image: $name in $archive"
awk -v files="$(find "$root" -type f | wc -l)" -v size="$size" -v archive="$(stat -c %s "$archive")" \
  'BEGIN {printf "image: %d files, %.1f MB (archive %.1f MB)\n", files, size / 1e6, archive / 1e6}'
[ "$size" -le $((MAX_MB * 1000000)) ] || die "the image is larger than $MAX_MB MB"
