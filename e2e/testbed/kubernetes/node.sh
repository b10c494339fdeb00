#!/bin/bash
# First process of the lab's namespaces: makes them a node of its own (cgroups, mounts, an address),
# says so by the file $LAB/node-ready, then only reaps what the containers leave behind. lab.ts starts
# it through unshare and starts the daemons beside it. Nothing here is seen by the machine outside but
# the cgroups listed in $LAB/cgroups.
set -euo pipefail

if [ "${1:-}" != inside ]; then
  # One cgroup under each hierarchy of cgroup v1; it becomes the root of a cgroup namespace.
  : >"$LAB/cgroups"
  mapfile -t lines </proc/self/cgroup # whole: it changes as this process moves
  for line in "${lines[@]}"; do
    IFS=: read -r _ controller path <<<"$line"
    [ -n "$controller" ] || continue
    cgroup="/sys/fs/cgroup/${controller#name=}${path%/}/$LAB_CGROUP"
    mkdir -p "$cgroup"
    echo "$cgroup" >>"$LAB/cgroups"
    if [ "$controller" = cpuset ]; then
      # A new cpuset has neither CPUs nor memory, and without them takes no process.
      for file in cpuset.cpus cpuset.mems; do cat "${cgroup%/*}/$file" >"$cgroup/$file"; done
    fi
    echo 0 >"$cgroup/cgroup.procs"
  done
  exec unshare --cgroup bash "$0" inside
fi

hostname "$NODE_NAME"
mount --make-rprivate /
mount -t sysfs sysfs /sys # of this network namespace
mount -t tmpfs tmpfs /sys/fs/cgroup
while IFS=: read -r _ controller _; do # of this cgroup namespace
  [ -n "$controller" ] || continue
  mkdir "/sys/fs/cgroup/${controller#name=}"
  case $controller in name=*) option=none,$controller ;; *) option=$controller ;; esac
  mount -t cgroup -o "$option" cgroup "/sys/fs/cgroup/${controller#name=}"
done </proc/self/cgroup
mount -t tmpfs tmpfs /var/lib # the kubelet and the pod network write there, whatever they are told
mount -t tmpfs tmpfs /run
mkdir /run/lock
mount --bind "$LAB/var-log" /var/log # of pods and containers: the kubelet's paths for them are fixed

# The kubelet sets these kernel-wide values; it finds files of ours in which they are set already.
pretend() {
  local file="$LAB/kernel/${1##*/}"
  echo "$2" >"$file"
  mount --bind "$file" "$1"
}
pretend /proc/sys/vm/overcommit_memory 1
pretend /proc/sys/kernel/panic 10
pretend /proc/sys/kernel/panic_on_oops 1
mount --make-rshared /

# Loopback, and an empty bridge that carries the node's address (not every kernel has dummy links).
# There is no route out.
ip link set lo up
ip link add node0 type bridge
ip addr add "$NODE_ADDRESS/32" dev node0
ip link set node0 up
ip route add "$SERVICE_CIDR" dev node0 # without a route kube-proxy's DNAT never sees the packet
echo 1 >/proc/sys/net/ipv4/ip_forward

touch "$LAB/node-ready"
trap 'exit 0' TERM
# What containerd's shims leave behind is a child of this process, the first of its pid namespace.
while :; do
  sleep 1 &
  wait || true
done
