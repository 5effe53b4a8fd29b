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
    "nsenter": "util-linux",
    "charon-systemd": "charon-systemd",
    "swanctl": "strongswan-swanctl",
    "ss-server": "shadowsocks-libev",
    "ss-local": "shadowsocks-libev",
    "ss-redir": "shadowsocks-libev",
    "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so": "libcharon-extra-plugins",
}
DAEMON = "daemon"
# A real server: it runs in its own directory, with its own /run, and sees its own files below etc in /etc, where
# it looks for them by itself (and where AppArmor, which goes by the path, lets it).
_DAEMON = """
cd "$1" && shift || exit 1
[ ! -d etc ] || (cd etc && find . -type f) | while read -r file; do
    mount --bind "etc/$file" "/etc/$file" || exit 1
done || exit 1
mount --bind run /run && exec "$@"
"""


def require(program: str) -> str:
    """Return the path of a program of the distribution.

    Raises:
        NotSupported: it is not installed; the message names the package.
    """
    path = program if Path(program).is_file() else shutil.which(program)
    if path is None:
        package = _PACKAGES.get(program, program)
        raise NotSupported(f"the lab needs {program}, which is not installed\ntry: apt install {package}")
    return path


def place(directory: Path, label: str) -> Path:
    """Return the directory of a real server: its keys, its configuration, its /run."""
    return directory / label


def argv(program: Program, directory: Path, label: str = "") -> list[str]:
    """Expand a program; `directory` is the lab's, from which its HTTP servers serve `www`.

    `daemon PROGRAM` is that program of the distribution, under the label of its service. `get ADDRESS PORT [PROXY]`
    is curl where it is installed, else a client of ours (through a PROXY only curl); the first word of any other
    program is `ping` or a command of traffic.py.
    """
    first, *rest = program
    if first == DAEMON:
        own = place(directory, label)
        return ["/bin/sh", "-c", _DAEMON, "sh", str(own), require(rest[0]), *rest[1:]]
    if first == "ping":
        return [require("ping"), "-n", "-i", "0.01", "-W", "1", *rest]
    if first == "get":
        address, port, *proxy = rest
        if curl := require("curl") if proxy else shutil.which("curl"):
            report = ["--output", "/dev/null", "--write-out", "%{http_code}\n"]
            return [
                curl,
                "--silent",
                "--show-error",
                *(["--proxy", *proxy] if proxy else ["--noproxy", "*"]),
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
