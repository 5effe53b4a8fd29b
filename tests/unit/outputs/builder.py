"""Builds rows for tests, one path after the other, as correlation would make them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tracer.model.columns import COLUMNS, INTERNAL
from tracer.outputs.schema import arrow_field

FLOW = ("family", "src", "dst", "proto", "sport", "dport", "mark", "tos")
START_NS = 1_764_000_000_000_000_000


class Rows:
    """A table in the making: `path()`, then per hop `hop()`, `receive()`, `decide()`, `end()`."""

    def __init__(self) -> None:
        """Start with no rows; time starts at START_NS and goes on by 1 µs a row."""
        self.rows: list[dict[str, Any]] = []
        self.ts_ns = START_NS
        self._path: dict[str, Any] = {}
        self._hop: dict[str, Any] = {}
        self._step = self._hops = self._decision = 0

    def path(self, packet: int, src: str = "10.1.0.2", dst: str = "10.2.0.2", **other: Any) -> Rows:
        """Begin a path; `other`: sport, dport, proto, mark, tos, info, complete, lost."""
        flow = {"family": 4, "proto": "tcp", "sport": 41234, "dport": 80, "mark": 0, "tos": 0}
        self._path = {"packet": packet, "src": src, "dst": dst, "lost": 0, "complete": True, **flow, **other}
        self._step = self._hops = self._decision = 0
        return self

    def hop(self, netns: str | None, role: str | None, inode: int | None = 4026532301) -> Rows:
        """Begin a hop."""
        self._hops += 1
        self._hop = {"hop": self._hops, "netns": netns, "netns_inode": inode, "role": role}
        return self

    def row(self, event: str, **columns: Any) -> Rows:
        """Add one row; what is not given comes from the path and the hop."""
        self._step += 1
        self.ts_ns += 1000
        here = {"step": self._step, "ts_ns": self.ts_ns, "event": event, "evidence": "observed"}
        self.rows.append({**self._path, **self._hop, **here, **columns})
        return self

    def receive(self, in_dev: str) -> Rows:
        """Add the row of an arrival."""
        return self.row("receive", in_dev=in_dev)

    def decide(self, purpose: str, *lookups: dict[str, Any], **own: Any) -> Rows:
        """Add the rows of a decision; the outcome is that of the last lookup unless given."""
        self._decision += 1
        caller = own.pop("caller", f"ip_route_{purpose}")
        common = {"purpose": purpose, "decision": self._decision, "caller": caller}
        for lookup in lookups:
            self.row("lookup", **common, **lookup)
        won = lookups[-1] if lookups else {}
        outcome = {name: won.get(name) for name in ("prefix", "gateway", "dev")}
        self.row(
            "decision", **common, **{"result": won.get("route_type"), "cached": not lookups, **outcome, **own}
        )
        return self

    def end(self, verdict: str, out_dev: str | None = None, **own: Any) -> Rows:
        """Add the row of a verdict; `own`: reason, pid, comm."""
        return self.row(verdict, verdict=verdict, out_dev=out_dev, **own)

    def table(self) -> pa.Table:
        """The rows as correlation hands them on: contract and internal columns."""
        arrays = []
        for column in (*COLUMNS, *INTERNAL):
            kind = arrow_field(column).type
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            array = pa.array([row.get(column.name) for row in self.rows], type=plain)
            arrays.append(array.dictionary_encode() if plain != kind else array)
        return pa.Table.from_arrays(arrays, schema=pa.schema([arrow_field(c) for c in (*COLUMNS, *INTERNAL)]))


def lookup(
    rule: int | None, text: str | None, table: str | None, result: str, **other: Any
) -> dict[str, Any]:
    """The columns of a lookup; a table is known by name or by number."""
    ids = {"local": 255, "main": 254, "default": 253}
    table_id = None if table is None else ids.get(table) or int(table)
    error = {"hit": 0, "suppressed": 0, "miss": -11, "throw": -11}.get(result, -113)
    return {
        "rule": rule, "rule_text": text, "table": table, "table_id": table_id, "walked_table_id": table_id,
        "result": result, "error": error, **other,
    }  # fmt: skip


def hit(rule: int | None, text: str | None, table: str | None, route: str, **other: Any) -> dict[str, Any]:
    """The columns of a lookup that found `route`: `PREFIX [via GATEWAY] dev DEV`."""
    words = route.split()
    gateway = words[words.index("via") + 1] if "via" in words else None
    dev = words[words.index("dev") + 1] if "dev" in words else None
    kind = other.pop("route_type", "local" if table == "local" else "unicast")
    scope = "universe" if gateway else "link"
    found = {"prefix": words[0], "gateway": gateway, "dev": dev, "route_type": kind, "scope": scope}
    return lookup(rule, text, table, other.pop("result", "hit"), **{**found, **other})


LOCAL_MISS = lookup(0, "from all lookup local", "local", "miss")
SWAPPED = {"src": "10.2.0.2", "dst": "10.1.0.2"}


def design_rows(packet: int = 17, rows: Rows | None = None) -> Rows:
    """The path of the design, section 3: a SYN from a client through a router to a server."""
    rows = rows or Rows()
    rows.path(packet, info="SYN")
    rows.hop("c", "client", 4026532300)
    out = hit(32766, "from all lookup main", "main", "0.0.0.0/0 via 10.1.0.1 dev c0")
    rows.decide("output", LOCAL_MISS, out, caller="tcp_v4_connect")
    rows.end("send", "c0", pid=812, comm="curl")
    rows.hop("r", "router").receive("r0")
    on = hit(100, "from 10.1.0.0/24 lookup 100", "100", "0.0.0.0/0 via 10.2.0.2 dev r1")
    rows.decide("input", LOCAL_MISS, on, caller="ip_route_input_slow")
    swapped = {**LOCAL_MISS, **SWAPPED}
    back = hit(32766, "from all lookup main", "main", "10.1.0.0/24 dev r0", **SWAPPED)
    rows.decide(
        "source-check", swapped, back, caller="__fib_validate_source", reason="strict: same device, pass"
    )
    rows.end("forward", "r1")
    rows.hop("s", "server", 4026532302).receive("s0")
    rows.decide(
        "input", hit(0, "from all lookup local", "local", "10.2.0.2/32 dev s0"), caller="ip_route_input_slow"
    )
    return rows.end("deliver", pid=640, comm="nginx")


def many(paths: int) -> pa.Table:
    """Rows of the design's path, repeated with other packets, times and source ports: for measuring."""
    import numpy as np

    one = design_rows(0).table()
    size = len(one)
    table = pa.concat_tables([one] * paths).unify_dictionaries().combine_chunks()
    number = np.repeat(np.arange(1, paths + 1), size)
    replaced = {
        "packet": number,
        "ts_ns": np.arange(size * paths) * 900 + START_NS,
        "sport": (number % 28000 + 32768).astype(np.int32),
    }
    for name, values in replaced.items():
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values))
    return table


def tunnel_rows() -> Rows:
    """A packet that a tunnel wraps on its way through a router; the header around it was decided before."""
    outer = {"src": "10.11.0.1", "dst": "10.12.0.1", "proto": "gre", "sport": None, "dport": None}
    rows = Rows().path(5, proto="icmp", sport=None, dport=None).hop("a", "router").receive("a0")
    rows.decide("input", hit(32766, "from all lookup main", "main", "10.2.0.0/24 dev tun1"))
    rows.row("send", out_dev="tun1")
    rows.decide("output", reason="cached: decided by #3 (route of the tunnel)", evidence="inferred", **outer)
    rows.end("forward", "a1", **outer)
    rows.hop("r", "router").row("receive", in_dev="r0", **outer)
    found = hit(32766, "from all lookup main", "main", "10.12.0.0/24 dev r1")
    rows.decide("input", {**found, **outer}, reason="outer header", **outer)
    return rows.end("forward", "r1", **outer)


def strange_rows(rows: Rows | None = None) -> Rows:
    """Paths with everything that is not the plain case: drops, cached, inferred, lost, unknown, repeated."""
    rows = rows or Rows()
    rows.path(1, "10.1.0.2", "10.2.0.9", proto="icmp", sport=None, dport=None, info="echo request", mark=7)
    rows.hop("router", "router").receive("r0")
    rows.decide("input", LOCAL_MISS, hit(32766, "from all lookup main", "main", "10.2.0.0/24 dev r1"))
    why = (
        "drop: source check failed: 10.1.0.2 is reached through r1 (rule 100, table 100), the packet came in "
        "on r0, rp_filter is strict on r0 (SKB_DROP_REASON_IP_RPFILTER)"
    )
    rows.decide(
        "source-check",
        hit(
            100,
            "from all iif r0 fwmark 0x7/0xff ipproto icmp lookup 100",
            "100",
            "10.1.0.0/24 via 10.9.0.1 dev r1",
            **SWAPPED,
        ),
        reason="strict: other device, fail",
    )
    rows.end("drop", reason=why)

    rows.path(2, info="ACK", lost=3, complete=False)
    rows.hop("c", "client")
    for _ in range(3):
        rows.decide("output", {**LOCAL_MISS, "evidence": "inferred"},
                    hit(50, "from all lookup main suppress_prefixlength 0", "main", "0.0.0.0/0 dev c0",
                        result="suppressed", evidence="inferred"),
                    lookup(60, "from all lookup 77", "77", "throw"),
                    hit(100, "from all lookup 51820", "51820", "10.2.0.2/32 via fe80::1 dev wg0",
                        evidence="inferred"),
                    caller="ip_route_output_flow udp_sendmsg")  # fmt: skip
    rows.end("send", "wg0", pid=99, comm='a "b",c')
    rows.hop(None, None, 4026531840).receive("wg1")
    rows.row("lookup", purpose="input", decision=4, **lookup(None, None, None, "miss"))

    rows.path(3)
    rows.hop("c", "client").decide(
        "output",
        reason="cached: decided by #12 (socket route)",
        result="unicast",
        prefix="0.0.0.0/0",
        gateway="10.1.0.1",
        dev="c0",
        uid=1000,
        iif=1,
        oif=0,
    )
    rows.end("send", "c0", pid=812)
    rows.path(4, "10.1.0.2", "10.9.9.9", proto="udp", dport=53)
    rows.hop("c", "client")
    rows.decide(
        "output",
        LOCAL_MISS,
        lookup(200, "from all to 10.9.9.9 prohibit", None, "prohibit", evidence="inferred"),
        result="EACCES",
    )
    rows.end("drop", reason="rule 200 says prohibit")
    rows.path(5, "2001:db8::1", "2001:db8::2", family=6)
    rows.hop("l", "local").decide(
        "output", lookup(0, "from all lookup local", "local", "miss", error=-5), result="ENETUNREACH"
    )
    rows.end("drop", reason="ENETUNREACH")
    rows.path(6, "10.9.0.1", "10.9.1.1", proto="udp", info="")
    rows.hop("r", "router").receive("r0")
    blocked = hit(
        32766,
        "from all lookup main",
        "main",
        "10.9.1.0/24",
        route_type="blackhole",
        result="blackhole",
        error=-22,
    )
    rows.decide("input", LOCAL_MISS, blocked)
    return rows.end("drop", reason="blackhole 10.9.1.0/24 in table main")
