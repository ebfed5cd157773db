# Shared settings of the cluster kit; sourced by every script in it.
# SRC: this folder. K (= K8S_DIR): binaries, images and state, never inside SRC. Everything lives in network
# namespaces of our own: no address below exists in the root namespace.
SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(cd "$SRC/../.." && pwd)
export K8S_DIR=${K8S_DIR:-$REPO/target/cluster}
mkdir -p "$K8S_DIR"
K8S_DIR=$(cd "$K8S_DIR" && pwd)
K=$K8S_DIR
NODES=${NODES:-1}                 # number of worker nodes n1..nN
CP_IP=10.89.0.1                   # control plane (netns kcp, on its bridge br0)
SVC_CIDR=10.96.0.0/16; SVC_API=10.96.0.1; DNS_IP=10.96.0.10
POD_CIDR=10.244.0.0/16            # node i: 10.244.i.0/24
node_ip() { echo 10.89.0.$((10+$1)); }
export API_PORT=${API_PORT:-6443} # forwarded on 127.0.0.1 of the root namespace
export PATH=$K/bin:/usr/sbin:/sbin:$PATH

die() { echo "cluster: $*" >&2; exit 1; }

# alive NAME: is the process that up.sh recorded as NAME still the one it started? A zombie has no command line,
# a recycled pid has another one; ours all carry K8S_DIR in theirs.
alive() {
  local p
  p=$(cat "$K/run/$1.pid" 2>/dev/null) || return 1
  { tr '\0' ' ' < "/proc/$p/cmdline"; } 2>/dev/null | grep -qF -e "$K"
}

# established CRD: waits until the API server serves it. A CRD that is a moment old has no conditions, which makes
# `kubectl wait` itself fail, hence the second try.
established() {
  local tries
  for tries in $(seq 100); do
    if kubectl wait --for=condition=Established "crd/$1" --timeout=10s >/dev/null 2>&1; then return 0; fi
    sleep 0.2
  done
  die "the CustomResourceDefinition $1 was not established after $tries tries; see 'kubectl describe crd $1'"
}
