#!/usr/bin/env bash
# A packet is marked after its route was looked up: nftables, hook output of type route.
# needs: nft
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
	ip -n ft-host neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev e0
	ip -n ft-host neigh add 198.51.100.9 lladdr 02:00:00:00:00:09 dev f0
	ip -n ft-host route add default via 192.0.2.9
	ip -n ft-host route add default via 198.51.100.9 table 77
	ip -n ft-host rule add pref 100 fwmark 7 lookup 77
	ip netns exec ft-host nft -f - <<-NFT
		table ip t {
			chain c {
				type route hook output priority mangle
				udp dport 9000 meta mark set 7
			}
		}
	NFT
	;;
run) ip netns exec ft-host bash -c 'echo hello >/dev/udp/203.0.113.1/9000' ;;
down) ip netns del ft-host ;;
esac
