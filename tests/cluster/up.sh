#!/bin/bash
# Starts the cluster: NODES=1 up.sh (or NODES=3). Safe to run again: it starts what is not running.
# Needs install.sh, build.sh and scripts/images.sh to have been run once (each is quick when there is nothing to do).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export NODES; T0=$(date +%s.%N); t() { printf '%6.1fs %s\n' "$(echo "$(date +%s.%N) - $T0" | bc)" "$*"; }

[ "$(id -u)" = 0 ] || die "only root can make network namespaces and cgroups. Run as root, or use kind/ where there is Docker."
for b in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl etcd coredns local-path-provisioner; do
  [ -x "$K/bin/$b" ] || die "$K/bin/$b is missing. Run $SRC/build.sh first."
done
for i in pause_3.10 busybox_1.35 coredns_1.12 local-path-provisioner_0.0.30; do
  [ -f "$K/images/$i.tar" ] || die "the image archive $i.tar is missing. Run $SRC/scripts/images.sh first."
done
mkdir -p "$K/run" "$K/log" "$K/images"
if ! alive cp; then
  if [ -n "$(ip netns pids kcp 2>/dev/null || true)" ]; then
    die "another cluster of this kit is running on this machine and there is room for one. Stop it with down.sh and its own K8S_DIR."
  fi
  if (exec 3<>"/dev/tcp/127.0.0.1/$API_PORT") 2>/dev/null; then
    alive fwd || die "port $API_PORT on 127.0.0.1 is taken. Choose another with API_PORT=<port>."
  fi
  rm -f "$K/api.sock"
fi
echo "$K" > "$K/run/owner"
sysctl -qw fs.inotify.max_user_instances=1024 || true
"$SRC/scripts/certs.sh"; "$SRC/scripts/net.sh"; t "certificates and network"
spawn() { # spawn NAME CMD... : detached; its pid is in run/NAME.pid; killing that pid kills the whole pid namespace
  local n=$1; shift
  if alive "$n"; then return 0; fi
  setsid nohup "$@" > "$K/log/$n.log" 2>&1 < /dev/null &
  echo $! > "$K/run/$n.pid"; disown
}
NS="unshare --mount --propagation private --pid --fork --kill-child --uts --ipc --mount-proc"
# the last argument of each script is K8S_DIR: by it alive() knows its own
# shellcheck disable=SC2086
spawn cp nsenter --net=/run/netns/kcp $NS "$SRC/scripts/controlplane.sh" "$K"
for _ in $(seq 50); do [ -S "$K/api.sock" ] && break; sleep 0.1; done
spawn fwd socat "TCP-LISTEN:$API_PORT,bind=127.0.0.1,fork,reuseaddr" "UNIX-CONNECT:$K/api.sock"
k="kubectl --kubeconfig=$K/kubeconfig"
for _ in $(seq 300); do $k get --raw /readyz >/dev/null 2>&1 && break; sleep 0.2; done
$k get --raw /readyz >/dev/null || die "the API server did not become ready in 60 s; see $K/log/kube-apiserver.log and etcd.log"
t "API server ready"
# shellcheck disable=SC2086
for i in $(seq 1 "$NODES"); do spawn "n$i" nsenter --net=/run/netns/kn$i $NS "$SRC/scripts/node.sh" "$i" "$K"; done
$k apply -f "$SRC/manifests/" >/dev/null; t "manifests applied"
for i in $(seq 1 "$NODES"); do
  for _ in $(seq 300); do $k get node "n$i" >/dev/null 2>&1 && break; sleep 0.2; done
done
$k wait --for=condition=Ready node --all --timeout=120s >/dev/null || die "a node did not become Ready in 120 s; see $K/log/kubelet-n*.log and containerd-n*.log"
t "$NODES node(s) Ready"
$k -n kube-system rollout status deploy/coredns --timeout=120s >/dev/null; t "CoreDNS ready"
$k -n kube-system rollout status deploy/local-path-provisioner --timeout=120s >/dev/null; t "storage provisioner ready"
echo "cluster: up. export KUBECONFIG=$K/kubeconfig; kubectl is $K/bin/kubectl; logs are in $K/log"
