#!/usr/bin/env bash
# A host with a route to the destination that does not forward: net.ipv4.ip_forward is 0.
set -euo pipefail
case "${1-run}" in
up)
	for ns in ft-a ft-r; do
		ip netns add $ns
		ip -n $ns link set lo up
	done
	ip netns exec ft-r sysctl -qw net.ipv4.ip_forward=0
	ip -n ft-a link add a0 type veth peer name r0 netns ft-r
	ip -n ft-r link add r1 type veth peer name r2
	ip -n ft-a address add 192.0.2.1/24 dev a0
	ip -n ft-r address add 192.0.2.2/24 dev r0
	ip -n ft-r address add 198.51.100.2/24 dev r1
	for device in a/a0 r/r0 r/r1 r/r2; do ip -n "ft-${device%/*}" link set "${device#*/}" up; done
	ip -n ft-a route add default via 192.0.2.2
	;;
run) ip netns exec ft-a bash -c 'echo hello >/dev/udp/198.51.100.1/9000' ;;
down) for ns in ft-a ft-r; do ip netns del $ns; done ;;
esac
