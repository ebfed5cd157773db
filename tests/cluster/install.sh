#!/bin/bash
# Installs the Debian packages that the kit and the image scripts need, and only those that are missing.
# Safe to run again: with everything there it answers in well under a second and touches no network.
set -euo pipefail
packages="containerd runc containernetworking-plugins buildah nftables iptables conntrack socat ethtool ipset kmod iproute2 busybox-static jq bc openssl gcc g++ libc6-dev"

missing=
for p in $packages; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
if [ -z "$missing" ]; then
  echo "install: all packages are there"
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  echo "install: these packages are missing and only root can install them:$missing" >&2
  echo "install: run  sudo apt-get install -y --no-install-recommends$missing" >&2
  exit 1
fi
echo "install: installing$missing"
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
# a service started by a package would be a second containerd beside the kit's own
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy
  trap 'rm -f $policy' EXIT
fi
# shellcheck disable=SC2086  # a list of words on purpose
if ! { apt-get install -y --no-install-recommends $missing || { apt-get update && apt-get install -y --no-install-recommends $missing; }; } > "$log" 2>&1; then
  tail -15 "$log" >&2
  echo "install: apt-get failed (whole log: $log). The cluster kit needs Debian or a relative of it." >&2
  exit 1
fi
rm -f "$log"
echo "install: done"
