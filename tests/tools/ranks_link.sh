#!/usr/bin/env bash
# Runs a command on two ranks with a limited link between them, as on two machines: each in a network namespace of its
# own, with nothing but that link. By hand, as root, with MPICH's launcher and programs built with it (mpich.sh):
#
#   bash tests/tools/ranks_link.sh RATE COMMAND...        RATE as of tc: 1gbit, 200mbit; both ways
#   bash tests/tools/ranks_link.sh 1gbit ./ranks_network
#   bash tests/tools/ranks_link.sh 1gbit build-mpich/bin/train --data corpus.txt --output two.h5
#
# Ranks of one machine would share memory, so MPICH is told that they are on two, and UCX that there is TCP alone. Each
# rank is bound to a core of its own.
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: $0 RATE COMMAND..." >&2; exit 2; }
rate=$1
shift
spaces=("hone-$$-0" "hone-$$-1")
trap 'for space in "${spaces[@]}"; do ip netns del "$space" 2>/dev/null || true; done' EXIT
for space in "${spaces[@]}"; do ip netns add "$space"; done
ip link add eth0 netns "${spaces[0]}" type veth peer name eth0 netns "${spaces[1]}"
for i in 0 1; do
  space=${spaces[$i]}
  ip -n "$space" address add "10.77.0.$((i + 1))/30" dev eth0
  ip -n "$space" link set lo up
  ip -n "$space" link set eth0 up
  # A bucket of a few of the kernel's large packets; what waits longer than 50 ms is dropped, as a switch would.
  ip netns exec "$space" tc qdisc add dev eth0 root tbf rate "$rate" burst 256kb latency 50ms
done
for space in "${spaces[@]}"; do  # UCX looks for devices that are up at its start
  for _ in {1..50}; do
    [ "$(ip netns exec "$space" cat /sys/class/net/eth0/operstate)" = up ] && break
    sleep 0.1
  done
done
export MPIR_CVAR_NOLOCAL=1 UCX_TLS=tcp,self UCX_NET_DEVICES=eth0
mpirun.mpich -n 1 ip netns exec "${spaces[0]}" taskset -c 0 "$@" : -n 1 ip netns exec "${spaces[1]}" taskset -c 1 "$@"
