#!/usr/bin/env bash
# The rules and tables of IPv6 in a host with one address, and an address that no route covers.
set -euo pipefail
case "${1-run}" in
up)
	ip netns add ft-host
	ip -n ft-host link set lo up
	ip -n ft-host link add e0 type veth peer name e1
	ip -n ft-host link set e0 addrgenmode none up
	ip -n ft-host link set e1 addrgenmode none up
	ip -n ft-host address add 2001:db8:1::1/64 dev e0 nodad
	ip -n ft-host rule add pref 100 to 203.0.113.9 lookup 100 # of IPv4
	;;
run)
	ip -n ft-host -6 rule show
	ip -n ft-host -6 route show table local
	ip -n ft-host -6 route show table main
	ip -n ft-host -6 route get 2001:db8:1::1
	ip -n ft-host -6 route get 2001:db8:2::1 2>&1 || true
	;;
down) ip netns del ft-host ;;
esac
