"""The labs as data are consistent: what a path names exists in the topology."""

from __future__ import annotations

import ipaddress
import itertools
import re
from dataclasses import replace

import pytest

from tracer.errors import BadRequest
from tracer.lab.build import address_batch, create_batch, device_batch, route_batch, sysctls
from tracer.lab.catalog import find, labs
from tracer.lab.needs import needs
from tracer.lab.topology import LOCAL, MAIN
from tracer.lab.twins import text6

ALL = list(labs().values())
BUILT_IN = {0: LOCAL, 32766: MAIN, 32767: 253}
L3MDEV = 1000  # made by the kernel with the first VRF


def every_hop(lab):
    """Return every (step, hop) of a lab, of paths, replies and copies."""
    for step in lab.steps:
        for path in step.expect.every_path():
            for hop in path:
                yield step, hop


def rules(ns):
    """Return the rules of a namespace: preference to text."""
    return {int(re.search(r"pref (\d+)", text)[1]): text for text in (*ns.rules, *ns.service_rules)}


def test_the_labs_are_there():
    """The labs are there under their names, each with a line on what it is and what it shows."""
    anywhere = {"router", "policy", "errors", "rpfilter", "multipath", "local", "nat", "server"}
    proxied = {"shadowsocks", "multihomed"}
    relayed = {"openvpn", "openvpn-tcp", "wireguard-go", "strongswan"}
    kinds = {"vrf", "dummy", "vlan", "vxlan", "gre", "ipsec", "wireguard"}
    twins = {f"{name}6" for name in anywhere | kinds}
    assert set(labs()) == anywhere | proxied | relayed | kinds | {"docker-like"} | twins
    unneedy = {name for name, lab in labs().items() if not needs(lab)}
    assert unneedy == anywhere | proxied | {f"{name}6" for name in anywhere}
    assert {name for name, lab in labs().items() if needs(lab) == ("tun",)} == relayed
    assert {name for name, lab in labs().items() if lab.family == 6} == twins
    for lab in ALL:
        assert lab.summary
        assert lab.teaches
        assert "\n" not in lab.summary


def test_an_unknown_lab_is_refused_with_those_there_are():
    """The message names the labs to choose from."""
    with pytest.raises(BadRequest, match="router, policy, errors"):
        find("rooter")


@pytest.mark.parametrize("lab", ALL, ids=lambda lab: lab.name)
def test_hops_name_what_exists(lab):
    """Namespaces, devices, rules and tables of every expected hop are in the topology."""
    namespaces = {ns.name: ns for ns in lab.namespaces}
    for step, hop in every_hop(lab):
        ns = namespaces[hop.netns]
        for device in (hop.in_dev, hop.out_dev, hop.inner_in_dev, hop.inner_out_dev):
            assert device in {None, "lo", *lab.devices(ns.name)}, (step.label, hop)
        if hop.rule in BUILT_IN:
            assert hop.table == BUILT_IN[hop.rule], (step.label, hop)
        elif hop.rule == L3MDEV:
            assert f"table {hop.table}" in {device.options for device in ns.devices if device.kind == "vrf"}
        elif hop.rule is not None:
            text = rules(ns)[hop.rule]
            looked_up = re.search(r"lookup (\S+)", text)
            wanted = None if looked_up is None else {"main": MAIN}.get(looked_up[1]) or int(looked_up[1])
            assert hop.table == wanted, (step.label, hop)
        assert {rule for rule, _ in hop.passed} <= set(rules(ns)), (step.label, hop)


@pytest.mark.parametrize("lab", ALL, ids=lambda lab: lab.name)
def test_paths_follow_the_links(lab):
    """A hop's outgoing device and the next hop's incoming device are the two ends of one link."""
    links = {frozenset(link.ends()) for link in lab.links}
    below = {(ns.name, device.name): device.over for ns in lab.namespaces for device in ns.devices}
    ports = {(ns.name, bridge, port) for ns in lab.namespaces for port, bridge in ns.masters}
    relaying = {(service.netns, service.tun) for service in lab.services if service.tun}
    for step in lab.steps:
        for path in step.expect.every_path():
            for here, there in itertools.pairwise(path):
                out_dev = below.get((here.netns, here.out_dev)) or here.out_dev
                outs = {port for netns, bridge, port in ports if (netns, bridge) == (here.netns, out_dev)}
                ends = [
                    frozenset({(here.netns, out), (there.netns, there.in_dev)}) for out in {out_dev, *outs}
                ]
                assert links & set(ends), (step.label, here, there)
            end = path[-1]
            assert end.verdict in {"deliver", "drop"} or (end.netns, end.out_dev) in relaying, step.label


@pytest.mark.parametrize("lab", ALL, ids=lambda lab: lab.name)
def test_legs_join_where_something_relays(lab):
    """A leg goes on in the namespace where the one before it ended, at a service that relays."""
    relaying = {service.netns for service in lab.services if service.relays}
    devices = {(service.netns, service.tun) for service in lab.services if service.tun}
    labels = {service.label for service in lab.services if service.relays}
    assert {setup.service for setup in lab.setups} <= labels
    assert {dev.maker for ns in lab.namespaces for dev in ns.devices if dev.maker} <= labels
    for step in lab.steps:
        if not relaying:
            continue
        for here, there in itertools.pairwise(step.expect.legs):
            end, start = here.path[-1], there.path[0]
            if end.netns != "s":
                assert end.netns == start.netns, (step.label, here, there)
                assert end.netns in relaying, (step.label, here, there)
            if (end.netns, end.out_dev) in devices:
                assert start.verdict == "send", (step.label, here, there)


@pytest.mark.parametrize("lab", ALL, ids=lambda lab: lab.name)
def test_both_ends_of_a_link_share_a_net(lab):
    """Each link has addresses of one net on both of its devices."""
    nets = {}
    for ns in lab.namespaces:
        for device, prefix in ns.addresses:
            link_end = {dev.name: dev.over for dev in ns.devices if dev.over}.get(device, device)
            ports = [port for port, bridge in ns.masters if bridge == device]
            for end in (link_end, *ports):
                nets.setdefault((ns.name, end), set()).add(ipaddress.ip_interface(prefix).network)
    for link in lab.links:
        a, b = link.ends()
        assert nets[a] & nets[b], link


def test_every_rule_of_the_policy_lab_is_hit():
    """Each user rule decides some packet, but those that are passed or jumped over on purpose."""
    lab = find("policy")
    decided = {(hop.netns, hop.rule) for _, hop in every_hop(lab)}
    passed = {(hop.netns, rule) for _, hop in every_hop(lab) for rule, _ in hop.passed}
    rest = {(ns.name, pref) for ns in lab.namespaces for pref in rules(ns)} - decided - passed
    assert rest == {("r", 180), ("r", 190)}  # the goto, and the blackhole that it jumps over


def test_batches_say_everything():
    """The batches of a small lab are the commands one would type."""
    lab = find("router")
    router = lab.namespaces[1]
    assert create_batch(lab) == (
        "netns add c\nnetns add r\nnetns add s\n"
        "link add c0 netns c type veth peer name r0 netns r\n"
        "link add r1 netns r type veth peer name s0 netns s\n"
    )
    assert address_batch(lab, router) == (
        "addr add 10.1.0.1/24 dev r0\naddr add 10.2.0.1/24 dev r1\n"
        "link set lo up\nlink set r0 up\nlink set r1 up\n"
    )
    assert route_batch(router) == (
        "route add default via 10.2.0.2 dev r1 table 100\nroute add 10.1.0.0/24 dev r0 table 100\n"
        "rule add pref 100 from 10.1.0.0/24 lookup 100\n"
    )
    assert "mtu 1000" in create_batch(find("errors"))


def test_batches_make_the_other_devices():
    """Devices with what they lie on and their options, VRFs with what belongs to them, neighbours, IPsec."""
    c, r, s = find("vlan").namespaces
    assert device_batch(c) == "link add name c5 link c0 type vlan id 5\n"
    assert device_batch(s) == ""
    red = next(ns for ns in find("vrf").namespaces if ns.name == "r")
    assert device_batch(red).startswith("link add name red type vrf table 1001\n")
    assert "link set r0 master red\n" in device_batch(red)
    gateway = find("vxlan").namespaces[1]
    assert device_batch(gateway).startswith("link add name vx0 address 02:00:00:00:00:0a type vxlan id 42 ")
    assert route_batch(gateway).startswith(
        "neigh add 10.9.0.2 lladdr 02:00:00:00:00:0b dev vx0 nud permanent\n"
    )
    assert "\nxfrm policy add src 10.1.0.0/24 dst 10.2.0.0/24 dir out " in route_batch(
        find("ipsec").namespaces[1]
    )
    assert "link set r5 up" in address_batch(find("vlan"), r)


def test_sysctls_start_from_a_known_state():
    """IPv6 is off, forwarding is said either way, and a lab's own settings come last."""
    client, router, _ = find("router").namespaces
    lab = find("router")
    assert ("net.ipv6.conf.all.disable_ipv6", "1") in sysctls(lab, client)
    assert dict(sysctls(lab, client))["net.ipv4.ip_forward"] == "0"
    assert dict(sysctls(lab, router))["net.ipv4.ip_forward"] == "1"
    assert sysctls(lab, router)[-1] == ("net.ipv4.conf.r1.rp_filter", "1")


def test_sysctls_of_an_ipv6_lab_leave_no_waiting():
    """No duplicate address detection on any device, forwarding is that of IPv6, and no rp_filter is set."""
    lab = find("router6")
    client, router, _ = lab.namespaces
    for device in ("all", "default", "lo", "r0", "r1"):
        assert dict(sysctls(lab, router))[f"net.ipv6.conf.{device}.accept_dad"] == "0"
    assert dict(sysctls(lab, client))["net.ipv6.conf.all.forwarding"] == "0"
    assert sysctls(lab, router)[-1] == ("net.ipv6.conf.all.forwarding", "1")
    assert "net.ipv4.conf.r1.rp_filter" not in dict(sysctls(lab, router))


@pytest.mark.parametrize("lab", [lab for lab in ALL if lab.family == 6], ids=lambda lab: lab.name)
def test_no_ipv4_is_left_in_an_ipv6_lab(lab):
    """Addresses, routes, rules, programs and paths are all translated."""
    text = repr(replace(lab, namespaces=tuple(replace(ns, sysctls=()) for ns in lab.namespaces)))
    assert re.findall(r"\d+\.\d+\.\d+\.\d+", text) == []


@pytest.mark.parametrize(
    ("text", "translated"),
    [
        ("default via 10.1.0.1 dev c0", "default via fd00:10:1::1 dev c0"),
        ("10.1.0.0/24", "fd00:10:1::/64"),
        ("127.0.0.1/32", "::1/128"),
        ("0.0.0.0/0", "::/0"),
        ("dnat to 10.1.0.2:80", "dnat to [fd00:10:1::2]:80"),
        ("table ip lab { ip daddr 10.2.0.1 }", "table ip6 lab { ip6 daddr fd00:10:2::1 }"),
        ("pref 5 ipproto icmp lookup 9", "pref 5 ipproto ipv6-icmp lookup 9"),
        ("ip saddr", "ip6 saddr"),
    ],
)
def test_texts_are_translated(text, translated):
    """What iproute2 and nft read in IPv6."""
    assert text6(text) == translated
