#!/usr/bin/env bash
# A destination that no route in main covers, asked of two hosts: the second has a route in the table `default`.
set -euo pipefail
case "${1-run}" in
up)
	for ns in ft-a ft-b; do
		ip netns add $ns
		ip -n $ns link set lo up
		ip -n $ns link add e0 type veth peer name e1
		ip -n $ns link set e0 up
		ip -n $ns link set e1 up
		ip -n $ns address add 192.0.2.1/24 dev e0
	done
	ip -n ft-b route add default via 192.0.2.9 table default
	;;
run) for ns in ft-a ft-b; do ip -n $ns route get 203.0.113.1 || true; done ;;
down) for ns in ft-a ft-b; do ip netns del $ns; done ;;
esac
