"""Which rules a flow matches, as `fib_rule_match` decides it, and how `ip rule` prints a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tracer.enrich.names import Names, system_names
from tracer.model.network import IPV4, Link, NetworkState, Rule, address_text

HOST_LENGTH = {IPV4: 32}
TOS_MASK = 0x1C  # INET_DSCP_LEGACY_TOS_MASK: what a `tos` selector of IPv4 is compared with
FULL_MARK, FULL_PORT, FULL_DSCP = 0xFFFFFFFF, 0xFFFF, 0x3F
ACTIONS = ("blackhole", "unreachable", "prohibit")


class FlowKey(NamedTuple):
    """The selectors of one decision (`struct flowi4`/`flowi6`); addresses and ports are host-order integers.

    `iif` is 1 (loopback) for output, the ingress device for input. `uid` is the socket owner's.
    """

    family: int = IPV4
    saddr: int = 0
    daddr: int = 0
    iif: int = 1
    oif: int = 0
    mark: int = 0
    uid: int = 0
    tos: int = 0
    proto: int = 0
    sport: int = 0
    dport: int = 0
    tun_id: int = 0
    l3mdev: int = 0


def rule_text(rule: Rule, table_names: Mapping[int, str], names: Names | None = None) -> str:
    """The rule as `ip rule` prints it after the preference; selectors it cannot read are shown as unknown."""
    words = names or system_names()
    parts = ["not"] if rule.invert else []
    parts += [f"from {_prefix(rule.family, rule.src, rule.src_len) or 'all'}"]
    destination = _prefix(rule.family, rule.dst, rule.dst_len)
    parts += [f"to {destination}"] if destination else []
    parts += _selector_text(rule, words)
    parts += [
        f"[unknown attribute {number}]" if number else f"[unknown flags 0x{value}]"
        for number, value in rule.unknown
    ]
    parts += _action_text(rule, table_names, words)
    if rule.protocol not in {0, 2}:
        parts.append(f"proto {words.protocols.get(rule.protocol, str(rule.protocol))}")
    return " ".join(parts)


def _prefix(family: int, address: int, length: int) -> str:
    if not length:
        return ""
    text = address_text(family, address)
    return text if length == HOST_LENGTH.get(family, 128) else f"{text}/{length}"


def _selector_text(rule: Rule, names: Names) -> list[str]:
    """tos … tun_id in the order of iproute2's print_rule()."""
    parts = []
    if rule.tos:
        parts.append(f"tos {names.dsfields.get(rule.tos, f'0x{rule.tos:02x}')}")
    if rule.mark or rule.mask:
        mask = "" if rule.mask == FULL_MARK else f"/{_alternate_hex(rule.mask)}"
        parts.append(f"fwmark {_alternate_hex(rule.mark)}{mask}")
    if rule.iif:
        parts.append(f"iif {rule.iif}" + (" [detached]" if rule.iif_detached else ""))
    if rule.oif:
        parts.append(f"oif {rule.oif}" + (" [detached]" if rule.oif_detached else ""))
    if rule.uid:
        parts.append(f"uidrange {rule.uid[0]}-{rule.uid[1]}")
    if rule.ip_proto:
        parts.append(f"ipproto {names.ip_protocol(rule.ip_proto)}")
    return parts + _port_words(rule) + _dscp_words(rule, names)


def _port_words(rule: Rule) -> list[str]:
    parts = []
    if rule.sport:
        parts.append(f"sport {_port_text(rule.sport, rule.sport_mask)}")
    if rule.dport:
        parts.append(f"dport {_port_text(rule.dport, rule.dport_mask)}")
    if rule.tun_id:
        parts.append(f"tun_id {rule.tun_id}")
    return parts


def _alternate_hex(number: int) -> str:
    """C's `%#x`, which writes zero without a prefix."""
    return f"{number:#x}" if number else "0"


def _port_text(ports: tuple[int, int], mask: int) -> str:
    low, high = ports
    if mask and mask != FULL_PORT:
        return f"0x{low:x}/0x{mask:x}"
    return str(low) if low == high else f"{low}-{high}"


def _dscp_words(rule: Rule, names: Names) -> list[str]:
    if rule.dscp is None:
        return []
    if rule.dscp_mask not in {0, FULL_DSCP}:
        return [f"dscp 0x{rule.dscp:02x}/0x{rule.dscp_mask:02x}"]
    return [f"dscp {names.dsfields.get(rule.dscp << 2, str(rule.dscp))}"]


def _action_text(rule: Rule, table_names: Mapping[int, str], names: Names) -> list[str]:
    parts = []
    if rule.l3mdev:
        parts.append("lookup [l3mdev-table]")
    elif rule.table:
        parts.append(f"lookup {table_names.get(rule.table, str(rule.table))}")
    if parts and rule.suppress_prefixlength >= 0:
        parts.append(f"suppress_prefixlength {rule.suppress_prefixlength}")
    if parts and rule.suppress_ifgroup >= 0:
        group = names.groups.get(rule.suppress_ifgroup, str(rule.suppress_ifgroup))
        parts.append(f"suppress_ifgroup {group}")
    if rule.realms:
        source, target = rule.realms >> 16, rule.realms & 0xFFFF
        parts.append(f"realms {source}/{target}" if source else f"realms {target}")
    if rule.action == "goto":
        parts.append(f"goto {rule.target}" + (" [unresolved]" if rule.unresolved else ""))
    elif rule.action != "lookup":
        parts.append(rule.action)
    return parts


def suppressing_tables(state: NetworkState, family: int = IPV4) -> frozenset[int]:
    """Tables in which a hit may be thrown away: those of rules with suppress_prefixlength or _ifgroup."""
    return frozenset(rule.table for rule in state.rules_of(family) if rule.suppresses)


Test = Callable[[FlowKey], bool]


class Matcher:
    """One rule with its device names resolved; `matches` gives None where a selector cannot be evaluated."""

    __slots__ = ("_tests", "doubtful", "rule")

    def __init__(self, rule: Rule, links: Mapping[int, Link]) -> None:
        self.rule = rule
        self.doubtful = bool(rule.unknown)
        self._tests = _tests(rule, {link.name: link for link in links.values()})

    @property
    def is_plain(self) -> bool:
        """Whether the rule matches every flow and keeps every hit."""
        return not (self._tests or self.doubtful or self.rule.invert or self.rule.suppresses)

    def matches(self, flow: FlowKey) -> bool | None:
        """Whether the rule's selectors hold for the flow (`fib_rule_match`, inversion last)."""
        known = all(test(flow) for test in self._tests)
        if known and self.doubtful:
            return None
        return known is not self.rule.invert


def _tests(rule: Rule, by_name: Mapping[str, Link]) -> tuple[Test, ...]:
    devices = ((rule.iif, "iif"), (rule.oif, "oif"))
    tests = [_device(name, by_name, field) for name, field in devices if name]
    if rule.mask:
        tests.append(lambda flow: not (rule.mark ^ flow.mark) & rule.mask)
    if rule.tun_id:
        tests.append(lambda flow: flow.tun_id == rule.tun_id)
    if rule.l3mdev:
        tests.append(lambda flow: flow.l3mdev != 0)
    if rule.uid:
        tests.append(_range(rule.uid, "uid"))
    if rule.src_len:
        tests.append(_prefix_test(rule, "saddr", rule.src, rule.src_len))
    if rule.dst_len:
        tests.append(_prefix_test(rule, "daddr", rule.dst, rule.dst_len))
    tests += _field_tests(rule)
    return tuple(tests)


def _field_tests(rule: Rule) -> list[Test]:
    tests: list[Test] = []
    if rule.dscp is not None:
        tests.append(lambda flow: not ((rule.dscp or 0) ^ (flow.tos >> 2)) & rule.dscp_mask)
    elif rule.tos:
        tests.append(_tos(rule.tos, TOS_MASK if rule.family == IPV4 else 0xFC))
    if rule.ip_proto:
        tests.append(lambda flow: flow.proto == rule.ip_proto)
    sport, dport = ("sport", rule.sport, rule.sport_mask), ("dport", rule.dport, rule.dport_mask)
    for field, ports, mask in (sport, dport):
        if ports and mask:
            tests.append(_masked(field, ports[0], mask))
        elif ports:
            tests.append(_range(ports, field))
    return tests


def _device(name: str, by_name: Mapping[str, Link], field: str) -> Test:
    link = by_name.get(name)
    if link is None:
        return lambda _flow: False  # detached: the kernel's index is -1, which no flow has
    ifindex = link.ifindex
    if link.kind == "vrf":  # since 6.16 (iif_is_l3_master, oif_is_l3_master)
        return lambda flow: flow.l3mdev == ifindex
    position = FlowKey._fields.index(field)
    return lambda flow: flow[position] == ifindex


def _range(limits: tuple[int, int], field: str) -> Test:
    position, low, high = FlowKey._fields.index(field), *limits
    return lambda flow: low <= flow[position] <= high


def _tos(value: int, mask: int) -> Test:
    return lambda flow: flow.tos & mask == value


def _masked(field: str, value: int, mask: int) -> Test:
    position = FlowKey._fields.index(field)
    return lambda flow: not (value ^ flow[position]) & mask


def _prefix_test(rule: Rule, field: str, address: int, length: int) -> Test:
    position = FlowKey._fields.index(field)
    shift = HOST_LENGTH.get(rule.family, 128) - length
    wanted = address >> shift
    if rule.family != IPV4 and field == "saddr":
        # Without a source (RT6_LOOKUP_F_HAS_SADDR) no prefix matches, not even one around `::`.
        return lambda flow: flow.saddr != 0 and flow.saddr >> shift == wanted
    return lambda flow: flow[position] >> shift == wanted
