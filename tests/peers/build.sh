#!/bin/bash
# Builds the real programs our tests and benchmarks talk to (MinIO server, mc, KES) from pinned Go modules.
# They are AGPL: they are built and run beside ours, never linked, copied or committed.
#
# Usage: tests/peers/build.sh [minio] [mc] [kes]        (default: minio mc)
# Environment: PEERS_DIR  where the static binaries go   (default: <repo>/target/peers)
#
# Each program has a go.mod of its own, so that it gets the dependency versions of its own release. A program
# is skipped when it was built from the same go.mod, go.sum, Go release and flags (its stamp file says so).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
PEERS_DIR=${PEERS_DIR:-$repo/target/peers}

die() { echo "peers: $*" >&2; exit 1; }
command -v go >/dev/null || die "go is not installed, so the peers cannot be built. Install Go 1.26 or newer and run this again."
mkdir -p "$PEERS_DIR"

export CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" GOTOOLCHAIN=local
ldflags="-s -w"

package_of() {
  case $1 in
    minio) echo github.com/minio/minio ;;
    mc) echo github.com/minio/mc ;;
    kes) echo github.com/minio/kes/cmd/kes ;;
    *) die "unknown peer '$1'; known are: minio mc kes" ;;
  esac
}

build() {
  local name=$1 package stamp want started
  package=$(package_of "$name")
  stamp=$PEERS_DIR/.$name.stamp
  want=$({ cat "$here/$name/go.mod" "$here/$name/go.sum"; go version; echo "$GOFLAGS $ldflags"; } | sha256sum | cut -d' ' -f1)
  if [ -x "$PEERS_DIR/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
    echo "peers: $name is up to date"
    return
  fi
  echo "peers: building $name ($(cd "$here/$name" && go list -m -f '{{.Path}} {{.Version}}' "$(cd "$here/$name" && go list -f '{{.Module.Path}}' "$package")"))"
  started=$SECONDS
  rm -f "$stamp"
  if ! (cd "$here/$name" && nice -n 5 go build -trimpath -ldflags "$ldflags" -o "$PEERS_DIR/.$name.new" "$package") > "$PEERS_DIR/$name.build.log" 2>&1; then
    tail -20 "$PEERS_DIR/$name.build.log" >&2
    die "building $name failed; the whole log is $PEERS_DIR/$name.build.log. Without network the Go module proxy is the usual reason."
  fi
  mv "$PEERS_DIR/.$name.new" "$PEERS_DIR/$name"
  echo "$want" > "$stamp"
  echo "peers: $name built in $((SECONDS - started)) s, $(stat -c %s "$PEERS_DIR/$name") bytes"
}

for name in "${@:-minio mc}"; do
  for one in $name; do build "$one"; done
done
