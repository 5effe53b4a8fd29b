#!/usr/bin/env bash
# A connection to a port where nobody listens.
set -euo pipefail
case "${1-run}" in
up)
	for ns in ft-a ft-b; do
		ip netns add $ns
		ip -n $ns link set lo up
	done
	ip -n ft-a link add a0 type veth peer name b0 netns ft-b
	ip -n ft-a address add 192.0.2.1/24 dev a0
	ip -n ft-b address add 192.0.2.2/24 dev b0
	ip -n ft-a link set a0 up
	ip -n ft-b link set b0 up
	;;
run) ! ip netns exec ft-a bash -c 'exec 3<>/dev/tcp/192.0.2.2/9' 2>/dev/null ;;
down)
	ip netns del ft-a
	ip netns del ft-b
	;;
esac
