#!/usr/bin/env bash
# The number of a table as the kernel tells it: in the 8 bits of the header, and in the attribute.
set -euo pipefail
case "${1-run}" in
up)
	ip netns add ft-host
	ip -n ft-host link set lo up
	for table in 77 252 254 256 510 70000; do
		ip -n ft-host route add unreachable 198.51.100.0/24 table $table
	done
	;;
run)
	ip netns exec ft-host python3 - <<-'PY'
		import socket, struct
		sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)  # NETLINK_ROUTE
		rtmsg = struct.pack("=8BI", socket.AF_INET, *bytes(7), 0)
		sock.send(struct.pack("=IHHII", 28, 26, 0x301, 1, 0) + rtmsg)  # RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP
		data = sock.recv(65536)
		print("rtm_table  RTA_TABLE")
		while data and struct.unpack_from("=H", data, 4)[0] == 24:  # RTM_NEWROUTE
		    length = struct.unpack_from("=I", data)[0]
		    at = 28
		    while at < length:
		        size, kind = struct.unpack_from("=HH", data, at)
		        if kind == 15:  # RTA_TABLE
		            print(f"{data[20]:9}  {struct.unpack_from('=I', data, at + 4)[0]:9}")
		        at += (size + 3) & ~3
		    data = data[length:]
	PY
	;;
down) ip netns del ft-host ;;
esac
