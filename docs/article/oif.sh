#!/usr/bin/env bash
# The longest prefix does not win when its device is not the one that the socket is bound to, or is down.
set -euo pipefail
case "${1-run}" in
up)
	ip netns add ft-host
	ip -n ft-host link set lo up
	ip -n ft-host link add e0 type veth peer name e1
	ip -n ft-host link add f0 type veth peer name f1
	for device in e0 e1 f0 f1; do ip -n ft-host link set $device up; done
	ip -n ft-host address add 192.0.2.1/24 dev e0
	ip -n ft-host address add 198.51.100.1/24 dev f0
	ip -n ft-host route add default via 192.0.2.9
	ip -n ft-host route add 203.0.113.0/24 via 198.51.100.9
	ip netns exec ft-host sysctl -qw net.ipv4.conf.all.ignore_routes_with_linkdown=1
	;;
run)
	ip -n ft-host route get 203.0.113.1
	ip -n ft-host route get 203.0.113.1 oif e0
	ip -n ft-host link set f1 down
	ip -n ft-host route get 203.0.113.1
	;;
down) ip netns del ft-host ;;
esac
