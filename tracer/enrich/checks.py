"""The source check in words: the settings in force and where they come from, and on a failure what it hangs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracer.enrich.reasons import RP_FILTER
from tracer.model.network import DeviceSettings, address_text
from tracer.model.why import Why

if TYPE_CHECKING:
    from tracer.enrich.inference import Explained
    from tracer.model.network import NetworkState

_STRICT = 1
_SWITCHES = ("accept_local", "src_valid_mark", "route_localnet", "log_martians")
_NONE = DeviceSettings()


class Check(NamedTuple):
    """The device that the packet came in on, its mark where that is known, and whether the check failed."""

    device: str
    mark: int = 0
    failed: bool = False


def check_lines(state: NetworkState, explained: Explained, check: Check) -> list[Why]:
    """What the check was made with, and on a failure what failed it and what else would have let it pass."""
    lines = [Why("check", mode_text(state, check.device)), Why("check", _switch_text(state, check))]
    if check.failed:
        lines.append(Why("check", f"failed: {cause_text(explained, check)}"))
        lines += [Why("change", text) for text in changes(state, explained, check)]
    return lines


def both(state: NetworkState, name: str, device: str) -> tuple[int, int]:
    """A setting for `all` and for the device itself."""
    values = [getattr(state.settings.get(which, _NONE), name) for which in ("all", device)]
    return values[0], values[1]


def mode_text(state: NetworkState, device: str) -> str:
    """The reverse-path mode in force on a device, and the two values it is the larger of."""
    general, own = both(state, "rp_filter", device)
    mode = max(general, own)
    shown = RP_FILTER.get(mode, str(mode))
    return f"rp_filter on {device}: {shown} ({mode}), the larger of all {general} and {device} {own}"


def _switch_text(state: NetworkState, check: Check) -> str:
    """The settings of which one for `all` or for the device is enough."""
    said = []
    for name in _SWITCHES:
        general, own = both(state, name, check.device)
        said.append(f"{name} {'on' if general or own else 'off'} ({general}/{own})")
    mark = "with the packet's mark" if any(both(state, "src_valid_mark", check.device)) else "with mark 0"
    shown = f", not {check.mark:#x}" if check.mark and mark == "with mark 0" else ""
    return f"{', '.join(said)}: values of all/{check.device}; so it is made {mark}{shown}"


def _source(explained: Explained) -> str:
    return address_text(explained.flow.family, explained.flow.daddr)


def _where(explained: Explained) -> str:
    """The rule and the table that decided."""
    won = explained.ending_rule or explained.lookups[-1]
    parts = [f"rule {won['rule']} ({won['rule_text']})"] if won.get("rule_text") else []
    parts += [f"table {won['table']}"] if won.get("table") else []
    return ", ".join(parts) or "a rule that is not known"


def cause_text(explained: Explained, check: Check) -> str:
    """What the reverse lookup found that made the check fail."""
    result, source = explained.decision["result"], _source(explained)
    if result == "no route":
        return f"there is no route back to {source}"
    if result == "unicast":
        out = explained.lookups[-1].get("dev")
        return f"{source} is reached through {out} ({_where(explained)}), not through {check.device}"
    if result == "local":
        return f"{source} is an address of this host ({_where(explained)})"
    return f"the way back to {source} is {result} ({_where(explained)})"


def changes(state: NetworkState, explained: Explained, check: Check) -> list[str]:
    """Each is one of several ways in which the check would pass; which is right, only the network's owner knows."""
    result, source = explained.decision["result"], _source(explained)
    if result == "local":
        return [f"would pass if net.ipv4.conf.{check.device}.accept_local were 1 (if such a source is meant)"]
    won = explained.ending_rule or explained.lookups[-1]
    table = won.get("table") or "the table of a rule before it"
    said = [f"would pass if a route to {source} by {check.device} were found, such as one in table {table}"]
    general, own = both(state, "rp_filter", check.device)
    if max(general, own) == _STRICT and result == "unicast":
        said.append(
            f"would pass if rp_filter were loose: net.ipv4.conf.{check.device}.rp_filter is {own}, .all is {general},"
            " the larger counts (2 asks only for any route back)"
        )
    if explained.flow.mark == 0 and check.mark and not any(both(state, "src_valid_mark", check.device)):
        said.append(
            f"may pass if net.ipv4.conf.{check.device}.src_valid_mark were 1: rules would see mark {check.mark:#x}"
        )
    return said
