#!/usr/bin/env bash
# One host, asked for the same two addresses before, while and after it has a rule of its own.
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
	ip -n ft-host route get 192.0.2.1
	ip -n ft-host route get 192.0.2.9
	ip -n ft-host rule add pref 100 to 203.0.113.9 lookup 100
	ip -n ft-host route get 192.0.2.1
	ip -n ft-host route get 192.0.2.9
	ip -n ft-host rule del pref 100
	ip -n ft-host route get 192.0.2.9
	;;
down) ip netns del ft-host ;;
esac
