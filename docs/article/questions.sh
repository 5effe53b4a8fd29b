#!/usr/bin/env bash
# Lookups of a host that sends no packet: a bind, an address, a route, a question.
set -euo pipefail
case "${1-run}" in
up)
	ip netns add ft-host
	ip -n ft-host link add e0 type veth peer name e1
	ip -n ft-host link set lo up
	ip -n ft-host link set e0 up
	ip -n ft-host link set e1 up
	ip -n ft-host address add 192.0.2.1/24 dev e0
	;;
run)
	ip netns exec ft-host python3 -c 'import socket; socket.socket().bind(("192.0.2.1", 0))'
	ip -n ft-host address add 192.0.2.7/24 dev e0
	ip -n ft-host route add 198.51.100.0/24 via 192.0.2.9
	ip -n ft-host route get 198.51.100.1
	;;
down) ip netns del ft-host ;;
esac
