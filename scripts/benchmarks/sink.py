"""Holds UDP ports open and reads nothing: packets are delivered until the small buffers are full, then dropped there.

python sink.py [ports]      prints a line when the ports are open
"""

# ruff: noqa: INP001 - a program, not part of a package

from __future__ import annotations

import signal
import socket
import sys

FIRST_PORT = 9000


def main() -> None:
    """Open the ports, say so, and wait to be ended."""
    held = []
    for port in range(FIRST_PORT, FIRST_PORT + int(sys.argv[1] if len(sys.argv) > 1 else 250)):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        receiver.bind(("0.0.0.0", port))
        held.append(receiver)
    print("ready", flush=True)  # noqa: T201 - the signal to start
    signal.pause()


if __name__ == "__main__":
    main()
