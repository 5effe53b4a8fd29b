"""Senders and servers of the labs; a script on the standard library alone, so that it starts in milliseconds.

Run by path (`python -I -S traffic.py udp-send ...`), never imported by the rest. A server prints `ready`
when it can be talked to; a sender prints one line that says what it sent and what came back.
"""

# ruff: noqa: T201 - a program of its own: printing is how it reports

from __future__ import annotations

import argparse
import errno
import itertools
import os
import selectors
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

DEADLINE_S = 3.0
IP_PMTUDISC_PROBE = 3


class _Options(NamedTuple):
    """Numbers of socket options (linux/in.h, in6.h; the socket module of Python 3.11 does not name them all)."""

    level: int
    tos: int
    ttl: int
    mtu_discover: int
    recverr: int


_IPV4 = _Options(socket.IPPROTO_IP, socket.IP_TOS, socket.IP_TTL, 10, 11)
_IPV6 = _Options(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_UNICAST_HOPS, 23, 25)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _udp_socket(args: argparse.Namespace, offset: int) -> socket.socket:
    """Return a UDP socket with every option of the command line applied."""
    sock = socket.socket(_family(args.dst), socket.SOCK_DGRAM)
    ip = _IPV6 if sock.family == socket.AF_INET6 else _IPV4
    options: list[tuple[bool, int, int, int]] = [
        (args.mark != 0, socket.SOL_SOCKET, socket.SO_MARK, args.mark),
        (args.tos != 0, ip.level, ip.tos, args.tos),
        (args.ttl != 0, ip.level, ip.ttl, args.ttl),
        (args.df, ip.level, ip.mtu_discover, IP_PMTUDISC_PROBE),
        (args.icmp, ip.level, ip.recverr, 1),
        (args.broadcast, socket.SOL_SOCKET, socket.SO_BROADCAST, 1),
    ]
    for wanted, level, option, value in options:
        if wanted:
            sock.setsockopt(level, option, value)
    if args.device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, args.device.encode())
    if args.mcast_if:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(args.mcast_if))
    if args.bind or args.sport:
        sock.bind((args.bind, args.sport + offset if args.sport else 0))
    sock.settimeout(DEADLINE_S)
    return sock


def _await_icmp(sock: socket.socket) -> str:
    """Return the errno name of the next ICMP error in the error queue, or "nothing"."""
    with selectors.DefaultSelector() as selector:
        # An error queue makes the socket readable (EPOLLERR is reported whatever was asked for).
        selector.register(sock, selectors.EVENT_READ)
        if not selector.select(DEADLINE_S):
            return "nothing"
    _, ancillary, _, _ = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
    for level, kind, data in ancillary:
        if any((level, kind) == (ip.level, ip.recverr) for ip in (_IPV4, _IPV6)):
            number = int.from_bytes(data[:4], sys.byteorder)
            return "icmp " + errno.errorcode.get(number, str(number))
    return "nothing"


def _send_one(sock: socket.socket, args: argparse.Namespace, seen: Counter[str]) -> None:
    """Send one datagram and wait for the answer that the command line announces."""
    payload = b"x" * args.size
    try:
        if args.connect:
            sock.send(payload)
        else:
            sock.sendto(payload, (args.dst, args.port))
        seen["sent"] += 1
    except OSError as error:
        seen[errno.errorcode.get(error.errno or 0, "unknown error")] += 1
        return
    if args.replies:
        try:
            sock.recv(65535)
            seen["answered"] += 1
        except OSError as error:
            seen[errno.errorcode.get(error.errno or 0, "unanswered")] += 1
    elif args.icmp:
        seen[_await_icmp(sock)] += 1


def udp_send(args: argparse.Namespace) -> int:
    """Send `count` datagrams from each of `sports` sockets; errors are counted: some labs want them."""
    seen: Counter[str] = Counter(sent=0)
    if args.uid:
        os.setuid(args.uid)
    for offset in range(args.sports):
        with _udp_socket(args, offset) as sock:
            if args.connect:
                try:
                    sock.connect((args.dst, args.port))
                except OSError as error:
                    seen[errno.errorcode.get(error.errno or 0, "unknown error")] += 1
                    continue
            for _ in range(args.count):
                _send_one(sock, args, seen)
    print(", ".join(f"{what} {number}" for what, number in seen.items()), flush=True)
    return 0


def udp_echo(args: argparse.Namespace) -> int:
    """Answer every datagram, from the address it was sent to where that address was bound."""
    selector = selectors.DefaultSelector()
    ports = [int(port) for port in args.ports.split(",")]
    for address, port in itertools.product(args.addresses, ports):
        sock = socket.socket(_family(address), socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind((address, port))
        if args.join:
            _join(sock, *args.join)
        selector.register(sock, selectors.EVENT_READ)
    print("ready", flush=True)
    answered = 0
    while args.count == 0 or answered < args.count:
        for key, _ in selector.select():
            sock = key.fileobj  # type: ignore[assignment]
            data, peer = sock.recvfrom(65535)
            if not args.sink:
                sock.sendto(data, peer)
            answered += 1
    return 0


def _join(sock: socket.socket, group: str, interface: str) -> None:
    """Become a member of a group; the interface is named by its address, in IPv6 by its name."""
    if sock.family == socket.AF_INET6:
        membership = socket.inet_pton(socket.AF_INET6, group)
        membership += socket.if_nametoindex(interface).to_bytes(4, sys.byteorder)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    else:
        membership = socket.inet_aton(group) + socket.inet_aton(interface)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)


def tcp_server(args: argparse.Namespace) -> int:
    """Accept connections one by one, send back what comes until the peer has finished; end after `count`."""
    with socket.create_server((args.address, args.port), family=_family(args.address), backlog=8) as server:
        print("ready", flush=True)
        accepted = 0
        while args.count == 0 or accepted < args.count:
            connection, _ = server.accept()
            accepted += 1
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)
    return 0


def tcp_client(args: argparse.Namespace) -> int:
    """Connect, send `size` bytes, and read until the peer has sent them all back."""
    source = (args.bind, args.sport) if args.bind or args.sport else None
    try:
        sock = socket.create_connection((args.dst, args.port), timeout=DEADLINE_S, source_address=source)
    except OSError as error:
        print(errno.errorcode.get(error.errno or 0, "ETIMEDOUT"), flush=True)
        return 1
    received = 0
    with sock:
        sock.sendall(b"x" * args.size)
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(65536):
            received += len(data)
    print(f"received {received} bytes", flush=True)
    return 0 if received == args.size else 1


def http_get(args: argparse.Namespace) -> int:
    """Fetch `/` and print the status line; what the labs use where curl is not installed."""
    with socket.create_connection((args.dst, args.port), timeout=DEADLINE_S) as sock:
        sock.sendall(f"GET / HTTP/1.0\r\nHost: {args.dst}\r\n\r\n".encode())
        answer = b""
        while data := sock.recv(65536):
            answer += data
    status = answer.split(b"\r\n", 1)[0].decode("latin-1")
    print(status.split(" ")[1] if " " in status else "no answer", flush=True)
    return 0 if " 200 " in status + " " else 1


def http_server(args: argparse.Namespace) -> int:
    """Serve a directory with the standard library's HTTP server, without its reverse DNS query at start."""
    from functools import partial  # slow imports, only here
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from socketserver import TCPServer

    class Server(ThreadingHTTPServer):
        """Without the name that HTTPServer.server_bind asks the resolver for: that would be traffic too."""

        def server_bind(self) -> None:
            TCPServer.server_bind(self)
            self.server_name, self.server_port = args.address, args.port

    Server.address_family = _family(args.address)
    handler = partial(SimpleHTTPRequestHandler, directory=args.directory)
    with Server((args.address, args.port), handler) as server:
        print("ready", flush=True)
        server.serve_forever()
    return 0


def _sender_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dst")
    parser.add_argument("port", type=int)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--bind", default="")
    parser.add_argument("--sport", type=int, default=0)


def _udp_send_options(parser: argparse.ArgumentParser) -> None:
    _sender_options(parser)
    parser.add_argument("--count", type=int, default=1, help="datagrams per socket")
    parser.add_argument("--sports", type=int, default=1, help="sockets, with successive source ports")
    for name in ("--mark", "--tos", "--ttl", "--uid"):
        parser.add_argument(name, type=lambda text: int(text, 0), default=0)
    for name in ("--connect", "--df", "--broadcast", "--replies", "--icmp"):
        parser.add_argument(name, action="store_true")
    for name in ("--device", "--mcast-if"):
        parser.add_argument(name, default="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _udp_send_options(commands.add_parser("udp-send"))
    _sender_options(commands.add_parser("tcp-client"))
    _sender_options(commands.add_parser("http-get"))
    echo = commands.add_parser("udp-echo")
    echo.add_argument("ports", help="one or several, with commas")
    echo.add_argument("addresses", nargs="+")
    echo.add_argument("--join", nargs=2, metavar=("GROUP", "INTERFACE"))
    echo.add_argument("--sink", action="store_true", help="receive only")
    tcp = commands.add_parser("tcp-server")
    http = commands.add_parser("http-server")
    for server in (tcp, http):
        server.add_argument("address")
        server.add_argument("port", type=int)
    http.add_argument("directory")
    for server in (echo, tcp):
        server.add_argument("--count", type=int, default=0, help="end after so many; 0 is never")
    return parser


def main() -> int:
    """Run one sender or server, under its own name in /proc."""
    args = _parser().parse_args()
    Path("/proc/self/comm").write_text(args.command)
    commands = {
        "udp-send": udp_send,
        "udp-echo": udp_echo,
        "tcp-server": tcp_server,
        "tcp-client": tcp_client,
        "http-get": http_get,
        "http-server": http_server,
    }
    return commands[args.command](args)


if __name__ == "__main__":
    sys.exit(main())
