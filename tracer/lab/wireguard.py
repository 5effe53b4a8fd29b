"""Keys of WireGuard devices: made when a lab is built, told to both sides, and kept nowhere else."""

from __future__ import annotations

import subprocess

from tracer.errors import TracerError
from tracer.lab.programs import require
from tracer.lab.signals import held
from tracer.lab.topology import Lab


def introduce(lab: Lab, lock: int) -> None:
    """Give every WireGuard device of a lab its key, and its peer's public one.

    Raises:
        TracerError: `wg` refused; its own words are in the message.
    """
    peers = [(ns.name, peer) for ns in lab.namespaces for peer in ns.peers]
    private = {f"{netns}:{peer.device}": _wg(lock, "genkey") for netns, peer in peers}
    public = {end: _wg(lock, "pubkey", said=key) for end, key in private.items()}
    for netns, peer in peers:
        words = ["set", peer.device, "listen-port", str(peer.port), "fwmark", str(peer.mark)]
        words += ["private-key", "/dev/stdin", "peer", public[peer.end], "allowed-ips", peer.allowed]
        words += ["endpoint", peer.endpoint] if peer.endpoint else []
        _wg(lock, *words, netns=netns, said=private[f"{netns}:{peer.device}"])


def _wg(lock: int, *words: str, netns: str = "", said: str = "") -> str:
    where = [require("ip"), "netns", "exec", netns] if netns else []
    command = [*where, require("wg"), *words]
    with held():
        done = subprocess.run(
            command, input=said, capture_output=True, text=True, pass_fds=(lock,), check=False
        )
    if done.returncode != 0:
        place = f" in namespace {netns}" if netns else ""
        raise TracerError(f"cannot set up the lab: `wg {words[0]}` failed{place}: {done.stderr.strip()}")
    return done.stdout.strip()
