"""The labs there are."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tracer.errors import BadRequest
from tracer.lab.basic import LOCAL_LAB, ROUTER, SERVER_LAB
from tracer.lab.docker import DOCKER
from tracer.lab.drops import ERRORS, RPFILTER
from tracer.lab.labs6 import LABS6
from tracer.lab.multihomed import MULTIHOMED
from tracer.lab.openvpn import OPENVPN, OPENVPN_TCP
from tracer.lab.policy import POLICY
from tracer.lab.remote import WIREGUARD
from tracer.lab.shadowsocks import SHADOWSOCKS
from tracer.lab.sites import GRE, IPSEC, VXLAN
from tracer.lab.strongswan import STRONGSWAN
from tracer.lab.topology import Lab
from tracer.lab.translate import MULTIPATH, NAT
from tracer.lab.virtual import DUMMY, VLAN, VRF
from tracer.lab.wireguard_go import WIREGUARD_GO

_LABS = (
    *(ROUTER, POLICY, ERRORS, RPFILTER, MULTIPATH, LOCAL_LAB, NAT, SERVER_LAB),
    *(VRF, DUMMY, VLAN, VXLAN, GRE, IPSEC, WIREGUARD),
    *(OPENVPN, OPENVPN_TCP, WIREGUARD_GO, STRONGSWAN, SHADOWSOCKS, DOCKER, MULTIHOMED),
    *LABS6,
)
_BY_NAME: Mapping[str, Lab] = MappingProxyType({lab.name: lab for lab in _LABS})


def labs() -> Mapping[str, Lab]:
    """Return every lab by its name, in the order to show them."""
    return _BY_NAME


def find(name: str) -> Lab:
    """Return a lab by its name.

    Raises:
        BadRequest: there is none of this name; the message lists those there are.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise BadRequest(f"no lab is named {name!r}\ntry one of: {', '.join(_BY_NAME)}") from None
