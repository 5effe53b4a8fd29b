#!/usr/bin/env bash
# Five datagrams that reach a router as one list, twice: without a rule of its own, and with one.
# needs: ethtool
set -euo pipefail
case "${1-run}" in
up)
	for ns in ft-a ft-r ft-b; do
		ip netns add $ns
		ip -n $ns link set lo up
	done
	ip -n ft-a link add a0 type veth peer name r0 netns ft-r
	ip -n ft-r link add r1 type veth peer name b0 netns ft-b
	ip -n ft-a address add 192.0.2.1/24 dev a0
	ip -n ft-r address add 192.0.2.2/24 dev r0
	ip -n ft-r address add 198.51.100.2/24 dev r1
	ip -n ft-b address add 198.51.100.1/24 dev b0
	for device in a/a0 r/r0 r/r1 b/b0; do ip -n "ft-${device%/*}" link set "${device#*/}" up; done
	ip -n ft-a route add default via 192.0.2.2
	ip -n ft-b route add default via 198.51.100.2
	ip netns exec ft-r sysctl -qw net.ipv4.ip_forward=1
	ip netns exec ft-r ethtool -K r0 gro on
	for what in tso tx-udp-segmentation; do ip netns exec ft-a ethtool -K a0 $what off; done
	ip netns exec ft-a ping -qc 1 198.51.100.1 >/dev/null # neighbours are known from now on
	;;
run)
	burst() {
		ip netns exec ft-a python3 -c '
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_UDP if hasattr(socket, "SOL_UDP") else 17, 103, 20)  # UDP_SEGMENT
sock.sendto(bytes(100), ("198.51.100.1", 9000))'
	}
	burst
	ip -n ft-r rule add pref 100 to 203.0.113.9 lookup 100
	burst
	;;
down) for ns in ft-a ft-r ft-b; do ip netns del $ns; done ;;
esac
