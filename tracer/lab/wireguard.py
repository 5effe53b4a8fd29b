"""Keys of WireGuard devices: made when a lab is built, told to both sides, and kept nowhere else."""

from __future__ import annotations

from tracer.lab.tools import output_of
from tracer.lab.topology import Lab


def introduce(lab: Lab, lock: int) -> None:
    """Give every WireGuard device of a lab its key, and its peer's public one.

    Raises:
        TracerError: `wg` refused; its own words are in the message.
    """
    peers = [(ns.name, peer) for ns in lab.namespaces for peer in ns.peers]
    private = {f"{netns}:{peer.device}": output_of(lock, "wg", "genkey") for netns, peer in peers}
    public = {end: output_of(lock, "wg", "pubkey", said=key) for end, key in private.items()}
    for netns, peer in peers:
        words = ["wg", "set", peer.device, "listen-port", str(peer.port), "fwmark", str(peer.mark)]
        words += ["private-key", "/dev/stdin", "peer", public[peer.end], "allowed-ips", peer.allowed]
        words += ["endpoint", peer.endpoint] if peer.endpoint else []
        output_of(lock, *words, netns=netns, said=private[f"{netns}:{peer.device}"])
