"""The lab `strongswan`: IKEv2 by charon, and ESP in user space (kernel-libipsec), for kernels without IPsec too."""

from __future__ import annotations

import secrets
from pathlib import Path

from tracer.lab.programs import place
from tracer.lab.relayed import VPN, Vpn, client, gateway, network, way_around, way_in
from tracer.lab.steps import CLIENT, DEFAULT
from tracer.lab.topology import MAIN, Flow, Hop, Service, Setup

_SERVER, _CLIENT = "charon server", "charon client"
_INSIDE = "10.9.0.2"
_TABLE = _RULE = 220
_ESP_PORT = 4500
_PLUGIN = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"
# Only the plugins that it takes, kernel-libipsec before kernel-netlink: the first one that offers IPsec gives it.
_STRONGSWAN = """
charon-systemd {
  load = random nonce aes sha1 sha2 hmac kdf gmp kernel-libipsec kernel-netlink socket-default vici
  keep_alive = 0
  filelog {
    stderr {
      default = 1
    }
  }
}
swanctl {
  load = random nonce
}
"""
_SWANCTL = """
connections {
  lab {
    version = 2
    mobike = no
    proposals = aes128-sha256-modp2048
    %(ends)s
    local {
      auth = psk
      id = %(own)s
    }
    remote {
      auth = psk
      id = %(peer)s
    }
    children {
      net {
        esp_proposals = aes128-sha256
        %(net)s
      }
    }
  }
}
pools {
  clients {
    addrs = %(inside)s/32
  }
}
secrets {
  ike-lab {
    secret = %(secret)s
  }
}
"""
_VPN = Vpn(
    device="ipsec0",
    inside=_INSIDE,
    outer=Flow(VPN, None, "udp", sport=_ESP_PORT, dport=_ESP_PORT),
    into=way_in(_RULE, _TABLE, "10.2.0.0/24", "ipsec0"),
    around=way_around(32766, MAIN, DEFAULT),
    back_into=Hop("b", "forward", "b1", "ipsec0", _RULE, _TABLE, None, f"{_INSIDE}/32"),
)


def _prepare(directory: Path, _lock: int) -> None:
    secret = secrets.token_hex(16)
    for label, own, peer, ends, net in (
        (
            _CLIENT,
            "client",
            "gateway",
            f"local_addrs = {CLIENT}\n    remote_addrs = {VPN}\n    vips = 0.0.0.0",
            "remote_ts = 10.2.0.0/24",
        ),
        (_SERVER, "gateway", "client", f"local_addrs = {VPN}\n    pools = clients", "local_ts = 10.2.0.0/24"),
    ):
        etc = place(directory, label) / "etc"
        (etc / "swanctl").mkdir(parents=True)
        (etc / "strongswan.conf").write_text(_STRONGSWAN)
        words = {"own": own, "peer": peer, "ends": ends, "net": net, "inside": _INSIDE, "secret": secret}
        (etc / "swanctl" / "swanctl.conf").write_text(_SWANCTL % words)


def _service(netns: str, label: str) -> Service:
    return Service(netns, label, ("daemon", "charon-systemd"), "/run/charon.vici", relays=True, tun="ipsec0")


STRONGSWAN = network(
    _VPN,
    (
        client(_VPN, _CLIENT, service_rules=(f"pref {_RULE} lookup {_TABLE}",)),
        gateway(_VPN, _SERVER, service_rules=(f"pref {_RULE} lookup {_TABLE}",)),
    ),
    (_service("b", _SERVER), _service("c", _CLIENT)),
    name="strongswan",
    summary="client - router - VPN gateway - server; IKEv2 by strongSwan, ESP in user space by a TUN device",
    teaches="strongSwan's routes are in a table of their own, 220, which its rule asks before main.",
    prepare=_prepare,
    setups=(
        Setup(_SERVER, ("swanctl", "--load-all", "--noprompt")),
        Setup(_CLIENT, ("swanctl", "--load-all", "--noprompt")),
        Setup(_CLIENT, ("swanctl", "--initiate", "--child", "net")),
    ),
    requires=("charon-systemd", "swanctl", _PLUGIN, "nsenter"),
)
