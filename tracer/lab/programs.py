"""From the short program of a step to a command line of a real program."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tracer.errors import NotSupported
from tracer.lab.topology import Program

_TRAFFIC = Path(__file__).with_name("traffic.py")
_PACKAGES = {
    "ping": "iputils-ping",
    "ip": "iproute2",
    "nft": "nftables",
    "setpriv": "util-linux",
    "wg": "wireguard-tools",
}


def require(program: str) -> str:
    """Return the path of a program of the distribution.

    Raises:
        NotSupported: it is not installed; the message names the package.
    """
    path = shutil.which(program)
    if path is None:
        package = _PACKAGES.get(program, program)
        raise NotSupported(f"the lab needs {program}, which is not installed\ntry: apt install {package}")
    return path


def argv(program: Program, directory: Path) -> list[str]:
    """Expand a step's program; `directory` is the lab's, from which its HTTP servers serve `www`.

    `get ADDRESS PORT` is curl where it is installed, else a client of ours; the first word of any other
    program is `ping` or a command of traffic.py.
    """
    first, *rest = program
    if first == "ping":
        return [require("ping"), "-n", "-i", "0.01", "-W", "1", *rest]
    if first == "get":
        address, port = rest
        if curl := shutil.which("curl"):
            report = ["--output", "/dev/null", "--write-out", "%{http_code}\n"]
            return [
                curl,
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--max-time",
                "5",
                *report,
                f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/",
            ]
        return _ours("http-get", address, port)
    if first == "http-server":
        return _ours(first, *rest, str(directory / "www"))
    return _ours(first, *rest)


def _ours(*words: str) -> list[str]:
    # -I -S: neither site-packages nor the environment, which would cost ten times the start of the script
    # itself.
    return [sys.executable, "-I", "-S", str(_TRAFFIC), *words]
