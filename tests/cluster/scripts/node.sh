#!/bin/bash
# PID 1 of node $1's pid namespace (own mount, uts, pid and net namespaces; the host's cgroup namespace).
. "$(dirname "$0")/../env.sh"
i=$1; N=n$i; D=$K/nodes/$N; L=$K/log; P=$K/pki
mkdir -p $L $D/{kubelet,containerd,cni,netd,log-pods,log-containers,local-path}
hostname $N
keep() { local n=$1; shift; ( while :; do "$@" >> $L/$n-$N.log 2>&1; echo "$(date -u +%FT%TZ) $n-$N ended with $?" >> $L/restarts.log; sleep 1; done ) & }
mount --make-rprivate /
# /sys of this network namespace, with the host's cgroups in it
mkdir -p $D/sys; mount -t sysfs sysfs $D/sys; mount --rbind /sys/fs/cgroup $D/sys/fs/cgroup; mount --move $D/sys /sys 2>/dev/null || mount --rbind $D/sys /sys
mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/netns /run/lock
b() { mkdir -p $2; mount --bind $1 $2; }
b $D/kubelet /var/lib/kubelet; b $D/containerd /var/lib/containerd; b $D/cni /var/lib/cni; b $D/netd /etc/cni/net.d
b $D/log-pods /var/log/pods; b $D/log-containers /var/log/containers; b $D/local-path /opt/local-path-provisioner
# the kubelet wants these sysctls and would set them for the whole machine: show it files that already hold them
mkdir -p /run/fakesys
for kv in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
  f=/run/fakesys/${kv%%=*}; mkdir -p $(dirname $f); echo ${kv#*=} > $f; mount --bind $f /proc/sys/${kv%%=*}
done
mount --make-rshared /
# cgroup v1: a root of this node's own in every hierarchy
for c in cpu cpuacct cpuset memory devices freezer blkio pids systemd; do
  d=/sys/fs/cgroup/$c; [ -d $d ] || continue; mkdir -p $d/k$N
  if [ $c = cpuset ]; then cat $d/cpuset.cpus > $d/k$N/cpuset.cpus; cat $d/cpuset.mems > $d/k$N/cpuset.mems; echo 1 > $d/k$N/cgroup.clone_children; fi
done
cat > $D/netd/10-ptp.conflist <<Y
{"cniVersion":"0.4.0","name":"pods","plugins":[
 {"type":"ptp","ipMasq":false,"mtu":1500,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam","ranges":[[{"subnet":"10.244.$i.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
Y
cat > $D/containerd.toml <<Y
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:3.10"
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
Y
cat > $D/kubelet.yaml <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $P/$N.crt
tlsPrivateKeyFile: $P/$N.key
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
resolvConf: $K/resolv.conf
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /k$N
failCgroupV1: false
failSwapOn: false
maxPods: 60
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 200Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
systemReserved: {cpu: 100m, memory: ${SYS_RESERVED_MEM:-$(($(awk '/^MemTotal/{print $2}' /proc/meminfo) / 2))Ki}}
enforceNodeAllocatable: [pods]
nodeStatusUpdateFrequency: 4s
serializeImagePulls: false
registerWithTaints: []
Y
cat > $D/kube-proxy.yaml <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $K/kubeconfigs/kube-proxy}
mode: ${PROXY_MODE:-nftables}
clusterCIDR: $POD_CIDR
hostnameOverride: $N
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nodePortAddresses: []
Y
: > $K/resolv.conf
keep containerd containerd --config $D/containerd.toml
for t in $(seq 100); do ctr --connect-timeout 1s version >/dev/null 2>&1 && break; sleep 0.1; done
# only what the cluster itself needs: everything else comes by load-images.sh, while the cluster already works
$SRC/scripts/import-images.sh $i $K/images/{pause_,busybox_,coredns_,local-path-provisioner_}*.tar > $L/images-$N.log 2>&1
keep kubelet kubelet --config=$D/kubelet.yaml --kubeconfig=$K/kubeconfigs/$N --hostname-override=$N --node-ip=$(node_ip $i) --root-dir=/var/lib/kubelet --v=2
keep kube-proxy kube-proxy --config=$D/kube-proxy.yaml
while :; do wait -n; sleep 1; done
