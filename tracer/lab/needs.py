"""What a lab needs of this machine, found by trying: programs, and kinds of devices that are modules of the kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tracer.errors import NotSupported
from tracer.lab.netns import in_scratch
from tracer.lab.programs import require
from tracer.lab.topology import Lab

ESP, ESP6 = "esp", "esp6"


@dataclass(frozen=True)
class _Need:
    """What the kernel must have: how to say it, its option and module, and what `ip -batch` is told to try it."""

    words: str
    option: str
    module: str
    trial: str


def _device(kind: str, option: str, module: str = "", more: str = "") -> _Need:
    return _Need(f"{kind} devices", option, module or kind, f"link add t0 type {kind} {more}".rstrip())


_ENDS = "src 192.0.2.1 dst 192.0.2.2 proto esp"
_ENDS6 = "src 2001:db8::1 dst 2001:db8::2 proto esp"


def _esp(option: str, module: str, ends: str, nets: str) -> _Need:
    return _Need(
        "IPsec (ESP with AES-GCM)",
        f"{option}, CONFIG_CRYPTO_GCM",
        module,
        f"xfrm state add {ends} spi 1 mode tunnel aead rfc4106(gcm(aes)) 0x{'11' * 20} 128\n"
        f"xfrm policy add {nets} dir out tmpl {ends} mode tunnel",
    )


_KERNEL = {
    "dummy": _device("dummy", "CONFIG_DUMMY"),
    "gre": _device("gre", "CONFIG_NET_IPGRE", "ip_gre", "local 192.0.2.1 remote 192.0.2.2"),
    "ip6gre": _device("ip6gre", "CONFIG_IPV6_GRE", "ip6_gre", "local 2001:db8::1 remote 2001:db8::2"),
    "tun": _Need("TUN devices", "CONFIG_TUN", "tun", "tuntap add mode tun name t0"),
    "bridge": _device("bridge", "CONFIG_BRIDGE"),
    "vrf": _device("vrf", "CONFIG_NET_VRF", more="table 10"),
    "vxlan": _device("vxlan", "CONFIG_VXLAN", more="id 1 local 192.0.2.1 remote 192.0.2.2 dstport 4789"),
    "wireguard": _device("wireguard", "CONFIG_WIREGUARD"),
    "vlan": _Need(
        "vlan devices",
        "CONFIG_VLAN_8021Q",
        "8021q",
        "link add t0 type veth peer name t1\nlink add link t0 name t2 type vlan id 5",
    ),
    ESP: _esp("CONFIG_INET_ESP", "esp4", _ENDS, "src 192.0.2.0/24 dst 198.51.100.0/24"),
    ESP6: _esp("CONFIG_INET6_ESP", "esp6", _ENDS6, "src 2001:db8:1::/64 dst 2001:db8:2::/64"),
}


def needs(lab: Lab) -> tuple[str, ...]:
    """Return the kinds of devices of a lab, and `esp` or `esp6` where it has IPsec."""
    esp = ESP6 if lab.family == 6 else ESP  # noqa: PLR2004 - the IP version
    kinds = [device.kind for ns in lab.namespaces for device in ns.devices]
    return tuple(dict.fromkeys(kinds + [esp for ns in lab.namespaces if ns.xfrm]))


def check(lab: Lab) -> None:
    """Return if the lab can be built here.

    Raises:
        NotSupported: a program is not installed, or the kernel lacks something; what, and the remedy.
    """
    for program in _programs(lab):
        require(program)
    for name in needs(lab):
        need = _KERNEL[name]
        if complaint := _complaint(need.trial):
            raise NotSupported(
                f"cannot run lab {lab.name}: this kernel has no {need.words} ({need.option}): {complaint}\n"
                f"try: modprobe {need.module}; where there is no such module, boot the distribution's usual kernel\n"
                f"or, on Ubuntu: apt install linux-modules-extra-{os.uname().release}"
            )


def why_not(lab: Lab) -> str | None:
    """Return what this machine lacks for a lab, None if nothing."""
    try:
        check(lab)
    except NotSupported as error:
        return str(error).splitlines()[0].partition(": ")[2] or str(error).splitlines()[0]
    return None


def _programs(lab: Lab) -> Iterator[str]:
    yield from ("ip", "ping", "setpriv")
    if any(ns.nft for ns in lab.namespaces):
        yield "nft"
    if any(ns.peers for ns in lab.namespaces):
        yield "wg"
    yield from lab.requires


@cache
def _complaint(trial: str) -> str:
    """Return what `ip` says where it cannot make this; the kernel loads the module by itself."""

    def attempt() -> str:
        done = subprocess.run(
            [require("ip"), "-batch", "-"], input=f"{trial}\n", capture_output=True, text=True, check=False
        )
        return (
            ""
            if done.returncode == 0
            else (done.stderr.splitlines() or ["it cannot be made"])[0].removeprefix("Error: ")
        )

    return in_scratch(attempt)
