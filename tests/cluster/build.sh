#!/bin/bash
# Builds every cluster binary from pinned Go modules into $K8S_DIR/bin; what was already built from the same
# go.mod, go.sum, Go release and flags is skipped. Usage: build.sh [binary...]  (helm is built only when named)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
mkdir -p "$K/bin"
command -v go >/dev/null || die "go is not installed, so the Kubernetes binaries cannot be built. Install Go 1.25 or newer."
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local
V=v1.33.13
LD="-s -w"
for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  LD="$LD -X $p.gitVersion=$V -X $p.gitMajor=1 -X $p.gitMinor=33 -X $p.gitTreeState=clean -X $p.gitCommit=c029d48d28322ad0369aabdcf8b656fd3195cd30 -X $p.buildDate=2026-01-01T00:00:00Z"
done
TIMEFORMAT='%R s wall, %U s user, %S s sys'
skipped=
for b in "${@:-}"; do
  [ -n "$b" ] || { set -- kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl etcd coredns local-path-provisioner; break; }
done
for b in "$@"; do
  dir=$SRC/tools ex=
  case $b in
    etcd) p=go.etcd.io/etcd/server/v3;;
    coredns) p=.; dir=$SRC/dns;;
    local-path-provisioner) p=github.com/rancher/local-path-provisioner; ex="-X main.VERSION=v0.0.30";;
    helm) p=helm.sh/helm/v3/cmd/helm;;
    kube-apiserver|kube-controller-manager|kube-scheduler|kubelet|kube-proxy|kubectl) p=k8s.io/kubernetes/cmd/$b;;
    *) die "unknown binary '$b'; known are the kube-* ones, kubelet, kubectl, etcd, coredns, local-path-provisioner, helm";;
  esac
  stamp=$K/bin/.$b.stamp
  want=$({ cat "$dir"/go.mod "$dir"/go.sum; cat "$dir"/*.go 2>/dev/null || true; go version; echo "$p $LD $ex"; } | sha256sum | cut -d' ' -f1)
  if [ -x "$K/bin/$b" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then skipped="$skipped $b"; continue; fi
  rm -f "$stamp"
  if ! tm=$( { cd "$dir"; time nice -n 5 go build -trimpath -ldflags "$LD $ex" -o "$K/bin/.$b.new" $p >"$K/build.err" 2>&1; } 2>&1 ); then
    tail -20 "$K/build.err" >&2
    die "building $b failed; the whole output is $K/build.err. Without network the Go module proxy is the usual reason."
  fi
  mv "$K/bin/.$b.new" "$K/bin/$b"; echo "$want" > "$stamp"
  echo "built $b: $(echo "$tm" | tail -1), $(stat -c %s "$K/bin/$b") bytes"
done
[ -z "$skipped" ] || echo "up to date:$skipped"
