#!/usr/bin/env bash
# Table 0, in a route and in a rule.
set -euo pipefail
case "${1-run}" in
up)
	ip netns add ft-host
	ip -n ft-host link set lo up
	;;
run)
	ip -n ft-host route add unreachable 198.51.100.0/24 table 0
	ip -n ft-host rule add pref 100 lookup 0
	ip -n ft-host route show table main
	ip -n ft-host rule show pref 100
	;;
down) ip netns del ft-host ;;
esac
