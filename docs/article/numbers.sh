#!/usr/bin/env bash
# Tables by number: one that was never made, one that was emptied, 252, and the last one there can be.
set -euo pipefail
case "${1-run}" in
up)
	ip netns add ft-host
	ip -n ft-host link add e0 type veth peer name e1
	ip -n ft-host link set lo up
	ip -n ft-host link set e0 up
	ip -n ft-host link set e1 up
	ip -n ft-host address add 192.0.2.1/24 dev e0
	ip -n ft-host route add 198.51.100.0/24 via 192.0.2.9 table 501
	ip -n ft-host route flush table 501
	ip -n ft-host route add 198.51.100.0/24 via 192.0.2.52 table 252
	ip -n ft-host route add 198.51.100.0/24 via 192.0.2.99 table 4294967295
	ip -n ft-host rule add pref 10 lookup 500
	ip -n ft-host rule add pref 11 lookup 501
	ip -n ft-host rule add pref 12 to 198.51.100.52 lookup 252
	ip -n ft-host rule add pref 13 lookup 4294967295
	;;
run)
	ip -n ft-host route get 198.51.100.52
	ip -n ft-host route get 198.51.100.99
	;;
down) ip netns del ft-host ;;
esac
