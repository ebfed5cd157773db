#!/bin/bash
# Builds the real programs our tests and benchmarks talk to from pinned Go modules: MinIO server, mc, KES of two
# generations, and one small client of ours for each Go SDK of KES. MinIO, mc, KES and its SDKs are AGPL: they are built
# and run beside ours, never copied or committed, and nothing built here is part of the product.
#
# Usage: tests/peers/build.sh [PEER...]      (default: all of them)
#   minio, mc     the storage server and its client
#   kes           KES v0.22.3, the last release with stateful mode
#   kes-0.23      KES v0.23.0, stateless
#   sdk-kes       client on the SDK inside KES v0.22.3
#   sdk-kes-go    client on kes-go v0.2.1
#   sdk-kms-go    client on kms-go/kes v0.3.1, which MinIO uses today
# Environment: PEERS_DIR  where the static binaries go   (default: <repo>/target/peers)
#
# Each program has a go.mod of its own, so that it gets the dependency versions of its own release. A program
# is skipped when it was built from the same files, Go release and flags (its stamp file says so).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
PEERS_DIR=${PEERS_DIR:-$repo/target/peers}

die() { echo "peers: $*" >&2; exit 1; }
command -v go >/dev/null || die "go is not installed, so the peers cannot be built. Install Go 1.26 or newer and run this again."
mkdir -p "$PEERS_DIR"

export CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" GOTOOLCHAIN=local
ldflags="-s -w"

all="minio mc kes kes-0.23 sdk-kes sdk-kes-go sdk-kms-go"

# PACKAGE MODULE: what is built, and the module whose version tells what it is
package_of() {
  case $1 in
    minio) echo github.com/minio/minio github.com/minio/minio ;;
    mc) echo github.com/minio/mc github.com/minio/mc ;;
    kes | kes-0.23) echo github.com/minio/kes/cmd/kes github.com/minio/kes ;;
    sdk-kes) echo . github.com/minio/kes ;;
    sdk-kes-go) echo . github.com/minio/kes-go ;;
    sdk-kms-go) echo . github.com/minio/kms-go/kes ;;
    *) die "unknown peer '$1'; known are: $all" ;;
  esac
}

build() {
  local name=$1 what package module stamp want started shared=
  what=$(package_of "$name")
  read -r package module <<<"$what"
  stamp=$PEERS_DIR/.$name.stamp
  case $name in sdk-*) shared="$here/sdk/*" ;; esac
  # shellcheck disable=SC2086
  want=$({ cat "$here/$name"/* $shared; go version; echo "$GOFLAGS $ldflags"; } | sha256sum | cut -d' ' -f1)
  if [ -x "$PEERS_DIR/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
    echo "peers: $name is up to date"
    return
  fi
  echo "peers: building $name ($(cd "$here/$name" && go list -m -f '{{.Path}} {{.Version}}' "$module"))"
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

# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $all
for name in "$@"; do build "$name"; done
