"""Whether a rule matches a flow, and by which selector it does not: in the order of `fib_rule_match()`, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracer.enrich.names import Names, system_names
from tracer.enrich.selectors import FULL_DSCP, FULL_MARK, FULL_PORT, HOST_LENGTH, TOS_MASK
from tracer.model.network import IPV4, address_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tracer.enrich.selectors import FlowKey
    from tracer.model.network import Link, Rule

_LOOPBACK = 1
_TOS_MASK6 = 0xFC


class Test(NamedTuple):
    """One selector of a rule against one flow."""

    holds: bool
    text: str


class Reason(NamedTuple):
    """Whether the rule matches (None where a selector cannot be evaluated), and why."""

    matched: bool | None
    text: str


def because(rule: Rule, flow: FlowKey, links: Mapping[int, Link], names: Names | None = None) -> Reason:
    """Why the rule matches the flow or does not: the first selector that fails, or all that hold."""
    tests = list(_tests(rule, flow, links, names or system_names()))
    failed = next((test for test in tests if not test.holds), None)
    if failed is None and rule.unknown:
        said = ", ".join(f"attribute {key}" if key else f"flags 0x{value}" for key, value in rule.unknown)
        return Reason(None, f"unknown {said}: cannot be evaluated")
    if failed is not None:
        return Reason(rule.invert, f"not: {failed.text}" if rule.invert else failed.text)
    held = ", ".join(test.text for test in tests)
    if rule.invert:
        return Reason(False, f"not: {held}" if held else "not: it selects everything")
    return Reason(True, held)


def _tests(rule: Rule, flow: FlowKey, links: Mapping[int, Link], names: Names) -> Iterator[Test]:
    """The selectors that the rule has, in the kernel's order."""
    for word, name, value in (("iif", rule.iif, flow.iif), ("oif", rule.oif, flow.oif)):
        if name:
            yield _device(word, name, value, (flow, links))
    if rule.mask:
        mask = "" if rule.mask == FULL_MARK else f"/{rule.mask:#x}"
        yield _same(
            f"fwmark {rule.mark:#x}{mask}", not (rule.mark ^ flow.mark) & rule.mask, f"{flow.mark:#x}"
        )
    if rule.tun_id:
        yield _same(f"tun_id {rule.tun_id}", flow.tun_id == rule.tun_id, str(flow.tun_id))
    if rule.l3mdev:
        yield _vrf(flow, links)
    if rule.uid:
        yield _range("uidrange", rule.uid, flow.uid)
    yield from _prefixes(rule, flow)
    yield from _traffic_class(rule, flow, names)
    yield from _transport(rule, flow, names)


def _prefixes(rule: Rule, flow: FlowKey) -> Iterator[Test]:
    if rule.src_len:
        yield _prefix("from", rule.family, (rule.src, rule.src_len), flow.saddr)
    if rule.dst_len:
        yield _prefix("to", rule.family, (rule.dst, rule.dst_len), flow.daddr)


def _transport(rule: Rule, flow: FlowKey, names: Names) -> Iterator[Test]:
    if rule.ip_proto:
        own = names.ip_protocol(flow.proto) if flow.proto else "none"
        yield _same(f"ipproto {names.ip_protocol(rule.ip_proto)}", flow.proto == rule.ip_proto, own)
    if rule.sport:
        yield _port("sport", rule.sport, rule.sport_mask, flow.sport)
    if rule.dport:
        yield _port("dport", rule.dport, rule.dport_mask, flow.dport)


def _same(what: str, holds: bool, value: str) -> Test:  # noqa: FBT001 - a value, not a switch
    return Test(holds, f"{what} {'=' if holds else '≠'} {value}")


def _contains(what: str, holds: bool, value: str) -> Test:  # noqa: FBT001 - a value, not a switch
    return Test(holds, f"{what} {'∋' if holds else '∌'} {value}")


def _device(word: str, name: str, value: int, world: tuple[FlowKey, Mapping[int, Link]]) -> Test:
    flow, links = world
    link = next((link for link in links.values() if link.name == name), None)
    if link is None:
        return Test(False, f"{word} {name}: no such device here")
    if link.kind == "vrf":  # since 6.16 a VRF stands for all its members (iif_is_l3_master)
        return _same(f"{word} {name}", flow.l3mdev == link.ifindex, _vrf_name(flow, links))
    return _same(f"{word} {name}", value == link.ifindex, device_name(links, value))


def device_name(links: Mapping[int, Link], ifindex: int) -> str:
    """A device by name; `none` for 0."""
    if not ifindex:
        return "none"
    link = links.get(ifindex)
    return link.name if link else ("lo" if ifindex == _LOOPBACK else f"if{ifindex}")


def _vrf_name(flow: FlowKey, links: Mapping[int, Link]) -> str:
    return f"VRF {device_name(links, flow.l3mdev)}" if flow.l3mdev else "no VRF"


def _vrf(flow: FlowKey, links: Mapping[int, Link]) -> Test:
    if not flow.l3mdev:
        return Test(False, "l3mdev: in no VRF")
    return Test(True, f"l3mdev: in {_vrf_name(flow, links)}")


def _range(word: str, limits: tuple[int, int], value: int) -> Test:
    return _contains(f"{word} {limits[0]}-{limits[1]}", limits[0] <= value <= limits[1], str(value))


def _prefix(word: str, family: int, prefix: tuple[int, int], value: int) -> Test:
    address, length = prefix
    size = HOST_LENGTH.get(family, 128)
    if family != IPV4 and word == "from" and not value:
        # Without a source (RT6_LOOKUP_F_HAS_SADDR) no prefix matches, not even one around `::`.
        return Test(False, f"from {address_text(family, address)}/{length}: no source is given")
    holds = address >> (size - length) == value >> (size - length)
    shown, own = address_text(family, address), address_text(family, value)
    if length == size:
        return _same(f"{word} {shown}", holds, own)
    return _contains(f"{word} {shown}/{length}", holds, own)


def _traffic_class(rule: Rule, flow: FlowKey, names: Names) -> Iterator[Test]:
    if rule.dscp is not None:
        value = flow.tos >> 2
        mask = "" if rule.dscp_mask in {0, FULL_DSCP} else f"/{rule.dscp_mask:#04x}"
        holds = not (rule.dscp ^ value) & rule.dscp_mask
        named = names.dsfields.get(rule.dscp << 2, f"{rule.dscp:#04x}") if not mask else f"{rule.dscp:#04x}"
        yield _same(f"dscp {named}{mask}", holds, f"{value:#04x}")
    elif rule.tos:
        mask_bits = TOS_MASK if rule.family == IPV4 else _TOS_MASK6
        value = flow.tos & mask_bits
        shown = names.dsfields.get(rule.tos, f"{rule.tos:#04x}")
        yield _same(f"tos {shown}", value == rule.tos, f"{value:#04x}")


def _port(word: str, ports: tuple[int, int], mask: int, value: int) -> Test:
    low, high = ports
    if mask:
        holds = not (low ^ value) & mask
        return _same(
            f"{word} {low:#x}/{mask:#x}" if mask != FULL_PORT else f"{word} {low}", holds, str(value)
        )
    if low == high:
        return _same(f"{word} {low}", value == low, str(value))
    return _range(word, ports, value)
