#!/usr/bin/env bash
# A reverse-path check in nftables: it looks the source up, before the kernel looks the destination up.
# needs: nft
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
	ip netns exec ft-b nft -f - <<-NFT
		table ip t {
			chain c {
				type filter hook prerouting priority raw
				fib saddr . iif oif missing drop
			}
		}
	NFT
	;;
run) ip netns exec ft-a ping -qc 1 192.0.2.2 >/dev/null ;;
down)
	ip netns del ft-a
	ip netns del ft-b
	;;
esac
