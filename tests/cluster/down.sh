#!/bin/bash
# Stops the cluster and leaves no process, mount, namespace or cgroup of it behind. With --purge it also deletes
# the state (etcd, node disks, logs, certificates, kubeconfig); binaries and images stay, being mere build output.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
case ${1:-} in ''|--purge) ;; *) die "usage: down.sh [--purge]";; esac

pids=
for f in "$K"/run/*.pid; do
  [ -f "$f" ] || continue
  name=$(basename "$f" .pid)
  # only what up.sh started: the recorded pid (nsenter becomes unshare; --kill-child takes its pid namespace with it)
  if alive "$name"; then p=$(cat "$f"); kill -KILL "$p" 2>/dev/null || true; pids="$pids $p"; fi
  rm -f "$f"
done
# the pid namespaces empty themselves a moment after their first process died
for p in $pids; do
  for _ in $(seq 100); do { tr '\0' ' ' < "/proc/$p/cmdline"; } 2>/dev/null | grep -q . || break; sleep 0.1; done
done
our_netns() { ip netns list 2>/dev/null | awk '$1 ~ /^(kcp|kn[0-9]+)$/ {print $1}'; }
if [ -n "$pids" ] || [ "$(cat "$K/run/owner" 2>/dev/null)" = "$K" ]; then
  for ns in $(our_netns); do
    for _ in $(seq 50); do [ -z "$(ip netns pids "$ns" 2>/dev/null)" ] && break; sleep 0.1; done
    ip netns del "$ns"
  done
  left=
  for _ in $(seq 50); do
    left=
    for c in /sys/fs/cgroup/kn[0-9]* /sys/fs/cgroup/*/kn[0-9]*; do
      [ -d "$c" ] || continue
      find "$c" -depth -type d -exec rmdir {} + 2>/dev/null || left="$left $c"
    done
    [ -z "$left" ] && break; sleep 0.1
  done
  [ -z "$left" ] || echo "cluster: these cgroups are still busy:$left" >&2
fi
rm -f "$K/api.sock" "$K/run/owner"
if [ "${1:-}" = --purge ]; then
  rm -rf "$K/etcd" "$K/nodes" "$K/log" "$K/run" "$K/pki" "$K/kubeconfig" "$K/kubeconfigs" "$K/resolv.conf"
  echo "cluster: stopped, its state is deleted; binaries and images stay in $K"
else
  echo "cluster: stopped; up.sh continues from the state in $K, down.sh --purge deletes it"
fi
