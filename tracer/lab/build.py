"""Making the namespaces of a lab: which commands, in which order, and doing it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tracer.errors import TracerError
from tracer.lab.daemons import prepare
from tracer.lab.netns import inside, is_running, udp_socket
from tracer.lab.programs import require
from tracer.lab.signals import held
from tracer.lab.state import State, netns_inode
from tracer.lab.topology import Lab, Namespace
from tracer.lab.wireguard import introduce

_LINK_UP_S = 5.0
# In labs of IPv4 no router solicitation or duplicate address detection gets into a trace.
_NO_IPV6 = tuple((f"net.ipv6.conf.{which}.disable_ipv6", "1") for which in ("all", "default", "lo"))
# Addresses are there at once, routes are only those of the lab, and every dropped packet gives its ICMPv6 error.
_IPV6_DEVICE = (
    *(("disable_ipv6", "0"), ("accept_dad", "0"), ("dad_transmits", "0")),
    *(("router_solicitations", "0"), ("accept_ra", "0"), ("autoconf", "0"), ("accept_redirects", "0")),
)
_IPV6 = (("net.ipv6.icmp.ratelimit", "0"), ("net.ipv6.icmp.echo_ignore_multicast", "0"))
# A new namespace copies the host's IPv4 settings (net.core.devconf_inherit_init_net): say all that matters.
_SYSCTLS = (
    *(
        (f"net.ipv4.conf.{which}.{key}", value)
        for which in ("all", "default")
        for key, value in (
            ("rp_filter", "0"),
            ("accept_local", "0"),
            ("src_valid_mark", "0"),
            ("send_redirects", "1"),
            ("arp_filter", "0"),
            ("arp_announce", "0"),
            ("log_martians", "0"),
        )
    ),
    ("net.ipv4.ping_group_range", "0 2147483647"),
    ("net.ipv4.icmp_echo_ignore_broadcasts", "1"),
    # Every dropped packet is to give its ICMP error. The mask, not icmp_ratelimit=0: that empties the peer's
    # bucket (inet_peer_xrlim_allow), which ip_error() draws on too, whenever a jiffy passes between the two.
    ("net.ipv4.icmp_ratemask", "0"),
)


def create_batch(lab: Lab) -> str:
    """Return the `ip -batch` text that makes namespaces and links."""
    lines = [f"netns add {ns.name}" for ns in lab.namespaces]
    for link in lab.links:
        (ns_a, dev_a), (ns_b, dev_b) = link.ends()
        mtu = f" mtu {link.mtu}" if link.mtu else ""
        lines.append(f"link add {dev_a} netns {ns_a}{mtu} type veth peer name {dev_b} netns {ns_b}{mtu}")
    return "\n".join(lines) + "\n"


def device_batch(ns: Namespace) -> str:
    """Return the batch for inside a namespace that makes its other devices: a tunnel's outer side is there too."""
    lines = []
    for dev in ns.devices:
        if dev.maker:
            continue
        more = (f" link {dev.over}" if dev.over else "") + (f" address {dev.address}" if dev.address else "")
        lines.append(f"link add name {dev.name}{more} type {dev.kind} {dev.options}".rstrip())
    lines += [f"link set {device} master {master}" for device, master in ns.masters]
    return _batch(lines)


def address_batch(lab: Lab, ns: Namespace) -> str:
    """Return the batch for inside a namespace that gives addresses and sets the devices up."""
    lines, seen = [], set()
    for device, prefix in ns.addresses:
        # Of several IPv6 addresses the newest would be the source of what names none; in IPv4 it is the first.
        more = "" if ":" not in prefix else " nodad preferred_lft 0" if device in seen else " nodad"
        lines.append(f"addr add {prefix} dev {device}{more}")
        seen.add(device)
    lines += [f"link set {device} up" for device in ("lo", *lab.devices(ns.name, made_by_services=False))]
    return _batch(lines)


def route_batch(ns: Namespace) -> str:
    """Return the batch for inside a namespace that makes neighbours, routes, rules and IPsec."""
    lines = [f"neigh add {text}" for text in ns.neighbours]
    lines += [f"route add {text}" for text in ns.routes]
    lines += [f"rule add {text}" for text in ns.rules]
    lines += [f"xfrm {text}" for text in ns.xfrm]
    return _batch(lines)


def nexthop_batch(ns: Namespace) -> str:
    """Return the batch for inside a namespace that makes nexthops: a group has no family, so nor has this."""
    return _batch([f"nexthop add {text}" for text in ns.nexthops])


def _batch(lines: list[str]) -> str:
    return "\n".join(lines) + "\n" if lines else ""


def sysctls(lab: Lab, ns: Namespace) -> tuple[tuple[str, str], ...]:
    """Return every sysctl of a namespace in the order they are set; the lab's own come last."""
    forwards = "1" if ns.forwarding else "0"
    if lab.family == 4:  # noqa: PLR2004 - the IP version
        return (*_NO_IPV6, *_SYSCTLS, ("net.ipv4.ip_forward", forwards), *ns.sysctls)
    devices = ("all", "default", "lo", *lab.devices(ns.name))
    each = tuple((f"net.ipv6.conf.{dev}.{key}", value) for dev in devices for key, value in _IPV6_DEVICE)
    return (*_SYSCTLS, *each, *_IPV6, ("net.ipv6.conf.all.forwarding", forwards), *ns.sysctls)


def build(lab: Lab, state: State, lock: int) -> None:
    """Make and configure everything of a lab but its services.

    Args:
        lab: what to make.
        state: where each thing is written down before it is made.
        lock: descriptor of the lock, which the helpers inherit.

    Raises:
        TracerError: a command was refused; its own words are in the message.
    """
    prepare(lab, state, lock)
    for ns in lab.namespaces:
        state.record(namespace=ns.name)
    _run_batches(lab.family, {"": create_batch(lab)}, lock)
    for ns in lab.namespaces:
        state.record(namespace=ns.name, inode=netns_inode(ns.name))
    _run_batches(lab.family, {ns.name: text for ns in lab.namespaces if (text := device_batch(ns))}, lock)
    for ns in lab.namespaces:
        inside(ns.name, lambda ns=ns: _set_sysctls(lab, ns))  # type: ignore[misc]
    introduce(lab, lock)
    _run_batches(lab.family, {ns.name: address_batch(lab, ns) for ns in lab.namespaces}, lock)
    _await_links(lab, made_by_services=False)
    _run_batches(0, {ns.name: text for ns in lab.namespaces if (text := nexthop_batch(ns))}, lock)
    _run_batches(lab.family, {ns.name: text for ns in lab.namespaces if (text := route_batch(ns))}, lock)
    for ns in lab.namespaces:
        if ns.nft:
            _load_nft(ns, lock)


def finish(lab: Lab, lock: int) -> None:
    """Make what needs the services: addresses and routes of devices that they made.

    Raises:
        TracerError: a command was refused, or such a device does not come up.
    """
    _run_batches(lab.family, {ns.name: _batch(list(ns.late)) for ns in lab.namespaces if ns.late}, lock)
    _await_links(lab, made_by_services=True)


def _set_sysctls(lab: Lab, ns: Namespace) -> None:
    """Write sysctls of the namespace this thread is in; /proc/sys/net shows that of the reader."""
    for key, value in sysctls(lab, ns):
        path = Path("/proc/sys") / key.replace(".", "/")
        if lab.family == 4 and "ipv6" in key and not path.exists():  # noqa: PLR2004 - the IP version
            continue  # a kernel without IPv6
        try:
            path.write_text(value)
        except OSError as error:
            raise TracerError(f"cannot set {key}={value} in namespace {ns.name}: {error.strerror}") from error


def _run_batches(family: int, batches: Mapping[str, str], lock: int) -> None:
    """Run `ip -batch` for several namespaces at once ("" is where we are), and wait for all.

    `family` is what a rule, which names no address, is of; 0 leaves it out.

    A signal waits as well: whoever cleans up must not do it while a command goes on making things.
    """
    with held():
        failures = [_complaint(*failed) for failed in _run_and_wait(family, batches, lock)]
    if failures:
        raise TracerError(failures[0])


def _run_and_wait(family: int, batches: Mapping[str, str], lock: int) -> list[tuple[str, str, str]]:
    """Run the batches; returns name, text and complaint of those that failed."""
    running: list[tuple[str, str, subprocess.Popen[bytes]]] = []
    for name, text in batches.items():
        where = [*([f"-{family}"] if family else []), *(["-netns", name] if name else [])]
        # A file and not a pipe: nothing has to be fed to one of them while the others run.
        with tempfile.TemporaryFile() as batch:
            batch.write(text.encode())
            batch.seek(0)
            popen = subprocess.Popen(
                [require("ip"), *where, "-batch", "-"],
                stdin=batch,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(lock,),
            )
        running.append((name, text, popen))
    failures = []
    for name, text, popen in running:
        _, complaint = popen.communicate()
        if popen.returncode != 0:
            failures.append((name, text, complaint.decode(errors="replace")))
    return failures


def _complaint(name: str, text: str, complaint: str) -> str:
    """Return ip's complaint with the line it is about (`Command failed -:3`)."""
    number = complaint.rpartition("-:")[2].strip()
    line = text.splitlines()[int(number) - 1] if number.isdigit() else "?"
    where = f" in namespace {name}" if name else ""
    return (
        f"cannot set up the lab: `ip {line}` failed{where}: {complaint.splitlines()[0] if complaint else '?'}"
    )


def _await_links(lab: Lab, *, made_by_services: bool) -> None:
    """Return when every device is operational, those that services make only if so said.

    Before that one end of a veth has no queue yet and loses what is sent, and the late change of state would flush the
    route caches in the middle of the traffic (fib_netdev_event), so that a connected socket would decide
    twice.
    """
    deadline = time.monotonic() + _LINK_UP_S
    with ExitStack() as stack:
        for ns in lab.namespaces:
            sock = stack.enter_context(udp_socket(ns.name))
            for device in lab.devices(ns.name, made_by_services=made_by_services):
                while not is_running(sock, device):
                    if time.monotonic() > deadline:
                        raise TracerError(f"device {device} in namespace {ns.name} did not come up")
                    time.sleep(0.001)


def _load_nft(ns: Namespace, lock: int) -> None:
    command = [require("ip"), "netns", "exec", ns.name, require("nft"), "-f", "-"]
    done = subprocess.run(
        command, input=ns.nft, capture_output=True, text=True, pass_fds=(lock,), check=False
    )
    if done.returncode != 0:
        raise TracerError(f"cannot load the nftables rules in namespace {ns.name}: {done.stderr.strip()}")
