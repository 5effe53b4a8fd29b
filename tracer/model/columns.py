"""The one catalogue of exported columns: names, order, types, units and meaning.

CSV and Parquet have exactly these columns in this order, `docs/columns.md` is generated from them, and a test
compares all of them. A column never changes its name or meaning inside one `SCHEMA`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCHEMA: Final = 1
"""Version of the exported schema; larger when a name or a meaning changes."""

INT32: Final = "int32"
INT64: Final = "int64"
STRING: Final = "string"
BOOL: Final = "bool"

EVENTS: Final = ("receive", "lookup", "decision", "send", "forward", "deliver", "drop")
VERDICTS: Final = ("deliver", "forward", "send", "drop")
ROLES: Final = ("server", "client", "router", "local")
EVIDENCE: Final = ("observed", "inferred")


@dataclass(frozen=True, slots=True)
class Column:
    """One exported column.

    `type` is `int32`, `int64`, `string` or `bool`; `unit` is empty where there is none; `values` lists what
    may stand in the column when that is a closed set.
    """

    name: str
    type: str
    doc: str
    unit: str = ""
    nullable: bool = True
    values: tuple[str, ...] = ()


COLUMNS: Final[tuple[Column, ...]] = (
    Column("packet", INT64, "number of the path; all rows of one path stand together", nullable=False),
    Column("step", INT32, "number of the row inside its path, from 1", nullable=False),
    Column("ts_ns", INT64, "when it happened, since the epoch (CLOCK_REALTIME)", "ns", nullable=False),
    Column(
        "hop",
        INT32,
        "number of the hop (stay in one network namespace) inside the path, from 1",
        nullable=False,
    ),
    Column("netns", STRING, "name of the network namespace of the hop"),
    Column("netns_inode", INT64, "inode number of that network namespace"),
    Column("role", STRING, "role of the host at this hop", values=ROLES),
    Column("event", STRING, "what the row tells", nullable=False, values=EVENTS),
    Column("purpose", STRING, "why the decision was made: `input`, `output`, `source-check`, `query`, …"),
    Column("decision", INT32, "number of the decision inside the path, from 1; empty outside decisions"),
    Column("rule", INT64, "preference of the rule that led to the lookup"),
    Column("rule_text", STRING, "that rule as `ip rule` prints it, without its preference"),
    Column("table", STRING, "name of the table that owns the route found, or was searched in vain"),
    Column("table_id", INT64, "number of that table"),
    Column(
        "walked_table_id",
        INT64,
        "number of the table the kernel walked; `local` and `main` may share one trie",
    ),
    Column(
        "result",
        STRING,
        "of a lookup: `hit`, `miss`, `throw`, `unreachable`, `prohibit`, `blackhole`, `suppressed`; "
        "of a decision: the type of the route chosen, or the error",
    ),
    Column("prefix", STRING, "matched prefix, `0.0.0.0/0` for the default route"),
    Column("gateway", STRING, "address of the nexthop, of either family; empty when directly connected"),
    Column("dev", STRING, "device of the nexthop"),
    Column("route_type", STRING, "type of the route: `unicast`, `local`, `broadcast`, `multicast`, …"),
    Column("scope", STRING, "scope of the route: `universe`, `site`, `link`, `host`, `nowhere`"),
    Column("error", INT32, "what the kernel's lookup returned: 0 or a negative errno"),
    Column("family", INT32, "address family", values=("4", "6")),
    Column("src", STRING, "source address; on lookups that of the flow key (a source check swaps it)"),
    Column("dst", STRING, "destination address; on lookups that of the flow key"),
    Column("proto", STRING, "protocol by name, by number where it has none; on lookups that of the flow key"),
    Column("sport", INT32, "source port; on lookups that of the flow key"),
    Column("dport", INT32, "destination port; on lookups that of the flow key"),
    Column("mark", INT64, "firewall mark; on lookups that of the flow key"),
    Column("tos", INT32, "type of service byte; on lookups that of the flow key"),
    Column("uid", INT64, "user id in the flow key of a lookup"),
    Column(
        "iif", INT32, "input interface index in the flow key of a lookup; 1 (loopback) for output lookups"
    ),
    Column("oif", INT32, "output interface index in the flow key of a lookup; 0 where not bound"),
    Column("in_dev", STRING, "device the packet came in on (rows `receive`)"),
    Column(
        "out_dev",
        STRING,
        "device the packet leaves by (rows `send`, `forward`; `lo` also where it is delivered by loopback)",
    ),
    Column(
        "verdict", STRING, "how the hop ended (rows `send`, `forward`, `deliver`, `drop`)", values=VERDICTS
    ),
    Column("reason", STRING, "why, in words: of a drop, of a cached decision, of a source check"),
    Column("pid", INT64, "process that sent or received the packet"),
    Column("comm", STRING, "name of that process"),
    Column("caller", STRING, "kernel function that asked for the decision"),
    Column(
        "evidence",
        STRING,
        "did a probe see it; `inferred` on a lookup: rule, prefix (multipath: nexthop) come from the configuration",
        nullable=False,
        values=EVIDENCE,
    ),
    Column("lost", INT64, "number of lost records that may belong to this path", nullable=False),
)

NAMES: Final[tuple[str, ...]] = tuple(column.name for column in COLUMNS)

INTERNAL: Final[tuple[Column, ...]] = (
    Column("info", STRING, "what the packet is, for people: `SYN`, `echo request`"),
    Column("complete", BOOL, "was the whole path seen"),
    Column("cached", BOOL, "on decision rows: the decision was made earlier and is reused"),
    Column("why", STRING, "on decision rows of a trace with --why: its lines (tracer.model.why) as JSON"),
    Column(
        "relays", STRING, "packets that a process read or wrote for this one (tracer.model.relay) as JSON"
    ),
)
"""Columns that rows may carry in memory; they are never written to CSV or Parquet."""
