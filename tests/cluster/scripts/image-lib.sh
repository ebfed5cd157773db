# Functions that make images without pulling anything: FROM scratch, COPY, commit; no RUN step, so no runtime is
# needed. `image` wants env.sh sourced before; the others serve image/build.sh too.
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
I=${K:-}/images

# image NAME:TAG ROOT [buildah config options...]
# An archive $I/NAME_TAG.tar from the folder ROOT; skipped when the folder's content and the options are those of the last time.
image() {
  local name=$1 root=$2 out want c; shift 2
  out=$I/$(echo "$name" | tr '/:' '__').tar
  mkdir -p "$I"
  want=$({ echo "$name" "$@"; cd "$root"; find . -printf '%P %y %m %U:%G %l\n' | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum; } | sha256sum | cut -d' ' -f1)
  if [ -f "$out" ] && [ "$(cat "$out.stamp" 2>/dev/null)" = "$want" ]; then
    echo "image localhost/$name is up to date"
    return 0
  fi
  rm -f "$out" "$out.stamp"
  command -v buildah >/dev/null || die "buildah is not installed. Run $SRC/install.sh."
  c=$(buildah from --pull-never scratch)
  buildah copy -q "$c" "$root" / >/dev/null
  buildah config --env PATH=/usr/local/bin:/usr/bin:/bin:/sbin "$@" "$c"
  buildah commit -q --rm "$c" "docker-archive:$out:localhost/$name" >/dev/null || { buildah rm "$c" >/dev/null; die "buildah could not commit localhost/$name"; }
  # the copy in buildah's own store is of no use and 100 MB large: the archive is what nodes import
  echo "$want" > "$out.stamp"
  echo "image localhost/$name built, $(stat -c %s "$out") bytes"
}

# rootfs DIR: empties DIR and gives it what every image of ours has: an account, name service settings, CA certificates.
rootfs() {
  rm -rf "$1"; mkdir -p "$1/etc/ssl/certs" "$1/usr/local/bin"
  printf 'root:x:0:0:root:/:/sbin/nologin\nuser:x:1000:1000::/tmp:/sbin/nologin\nnonroot:x:65532:65532::/:/sbin/nologin\n' > "$1/etc/passwd"
  printf 'root:x:0:\nuser:x:1000:\nnonroot:x:65532:\n' > "$1/etc/group"
  echo 'hosts: files dns' > "$1/etc/nsswitch.conf"
  if [ -f /etc/ssl/certs/ca-certificates.crt ]; then cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"; fi
}

# with_libraries DIR BINARY: copies the loader and the shared libraries that BINARY names, at the paths it expects.
# A static binary needs none. libresolv and libnss_* come along because glibc opens them at run time.
with_libraries() {
  local root=$1 binary=$2 lib list
  list=$(ldd "$binary" 2>/dev/null | grep -o '/[^ ]*' || true)
  [ -n "$list" ] || return 0
  for lib in $list $(dirname "$(echo "$list" | grep '/libc\.so' | head -1)")/libnss_{files,dns}.so.2 ; do
    [ -e "$lib" ] || continue
    mkdir -p "$root$(dirname "$lib")"; cp -L "$lib" "$root$lib"
  done
}

# install_binary FILE ROOT DESTINATION: stripped, since symbols are half of a debug build and every node gets a copy
install_binary() {
  cp "$1" "$2$3"; chmod 755 "$2$3"
  if command -v strip >/dev/null; then strip "$2$3" 2>/dev/null || true; fi
}
