#!/usr/bin/env bash
# A host receives a packet that claims to come from itself. No reverse-path filter is set.
set -euo pipefail
case "${1-run}" in
up)
	for ns in ft-a ft-b; do
		ip netns add $ns
		ip netns exec $ns sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
		ip -n $ns link set lo up
	done
	ip -n ft-a link add a0 type veth peer name b0 netns ft-b
	ip -n ft-a address add 192.0.2.1/24 dev a0
	ip -n ft-b address add 192.0.2.2/24 dev b0
	ip -n ft-a link set a0 up
	ip -n ft-b link set b0 up
	ip netns exec ft-a ping -qc 1 192.0.2.2 >/dev/null # neighbours are known from now on
	ip -n ft-a address add 198.51.100.7/32 dev lo
	ip -n ft-b address add 198.51.100.7/32 dev lo
	;;
run)
	ip netns exec ft-a python3 -c '
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("198.51.100.7", 0))
sock.sendto(b"hello", ("192.0.2.2", 9000))'
	;;
down) for ns in ft-a ft-b; do ip netns del $ns; done ;;
esac
