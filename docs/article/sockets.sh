#!/usr/bin/env bash
# Six datagrams of one connected socket; after the third, a route that has nothing to do with them is added.
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
run)
	ip netns exec ft-b python3 - <<-'PY' &
		import socket
		sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		sock.bind(("192.0.2.2", 9000))
		for _ in range(6):
		    sock.recv(100)
	PY
	until ip netns exec ft-b ss -Hlun | grep -q 192.0.2.2:9000; do :; done
	ip netns exec ft-a bash -c '
		exec 3<>/dev/udp/192.0.2.2/9000
		for word in one two three; do echo $word >&3; done
		ip route add 203.0.113.0/24 via 192.0.2.2
		for word in four five six; do echo $word >&3; done'
	wait
	;;
down)
	ip netns del ft-a
	ip netns del ft-b
	;;
esac
