"""`fibtrace trace`: follow packets; with COMMAND, until it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _option(name: str, metavar: str, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text)


Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write .csv, .jsonl, .parquet or .fibtrace too; several allowed.",
    ),
]
Format = Annotated[
    str, typer.Option("--format", metavar="tree|line|csv|jsonl|none", help="What stdout gets.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 5 if anything was lost.")]
RingMb = Annotated[
    int, typer.Option("--ring-mb", metavar="N", help="Size of the ring in MiB, a power of two.")
]
Changes = Annotated[
    bool,
    typer.Option("--changes", help="Show changes of rules, routes, devices and so on between the packets."),
]
Neighbours = Annotated[
    bool,
    typer.Option("--neighbours", help="With --changes also every neighbour, not only those that failed."),
]
User = Annotated[
    str | None, typer.Option("--user", metavar="NAME", help="Run COMMAND as this user, not as ourselves.")
]
Why = Annotated[
    bool,
    typer.Option("--why", help="Explain every decision: each rule in order, the route, the source check."),
]
Stacks = Annotated[
    str,
    typer.Option(
        "--stacks", metavar="first|all", help="Take the caller's kernel stack: once per call site, or always."
    ),
]


def trace(  # noqa: PLR0913 - one parameter per option of the contract
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Run this and trace until it ends.")
    ] = None,
    *,
    src: Annotated[str | None, _option("--src", "CIDR", "Source address or prefix.")] = None,
    dst: Annotated[str | None, _option("--dst", "CIDR", "Destination address or prefix.")] = None,
    host: Annotated[str | None, _option("--host", "CIDR", "Address or prefix of either end.")] = None,
    proto: Annotated[
        str | None, _option("--proto", "NAME", "IP protocol: tcp, udp, icmp, or a number.")
    ] = None,
    port: Annotated[int | None, _option("--port", "N", "Port of either end.")] = None,
    sport: Annotated[int | None, _option("--sport", "N", "Source port.")] = None,
    dport: Annotated[int | None, _option("--dport", "N", "Destination port.")] = None,
    iif: Annotated[str | None, _option("--iif", "DEV", "Device a packet came in on.")] = None,
    oif: Annotated[str | None, _option("--oif", "DEV", "Device a packet left by.")] = None,
    netns: Annotated[str | None, _option("--netns", "NAME|PID|inode", "Network namespace.")] = None,
    pid: Annotated[int | None, _option("--pid", "N", "Process that sent or got the packet.")] = None,
    comm: Annotated[str | None, _option("--comm", "NAME", "Name of that process.")] = None,
    unit: Annotated[str | None, _option("--unit", "NAME", "Its systemd unit or container.")] = None,
    uid: Annotated[int | None, _option("--uid", "N", "User that sent the packet.")] = None,
    mark: Annotated[str | None, _option("--mark", "M[/MASK]", "Firewall mark.")] = None,
    table: Annotated[str | None, _option("--table", "T", "Routing table that was searched.")] = None,
    role: Annotated[str | None, _option("--role", "R", "server, client, router or local.")] = None,
    drops: Annotated[bool, typer.Option("--drops", help="Only packets that were dropped.")] = False,
    family: Annotated[int | None, _option("--family", "4|6", "Address family.")] = None,
    purpose: Annotated[
        str | None,
        _option("--purpose", "P", "input, output, source-check, query or other; also what is no packet's."),
    ] = None,
    output: Outputs = None,
    format_: Format = "tree",
    user: User = None,
    count: Annotated[int | None, _option("--count", "N", "End after N packets.")] = None,
    duration: Annotated[float | None, _option("--duration", "S", "End after S seconds.")] = None,
    backend: Annotated[
        str, _option("--backend", "auto|fentry|kprobe|tracepoint", "How to look in.")
    ] = "auto",
    stacks: Stacks = "first",
    ring_mb: RingMb = 32,
    strict: Strict = False,
    changes: Changes = False,
    neighbours: Neighbours = False,
    why: Why = False,
) -> int:
    """Follow packets: which rule, table and route each takes in each network namespace, and why.

    With COMMAND after `--`, trace until it ends; its exit code is ours.
    """
    from tracer.cli.common import shown_changes
    from tracer.enrich.resolve import FilterWords
    from tracer.tracing import TraceOptions
    from tracer.tracing import trace as run

    if stacks not in {"none", "first", "all"}:
        raise typer.BadParameter(f"--stacks {stacks}: there is none, first, all")
    if (count is not None and count < 1) or (duration is not None and duration <= 0):
        raise typer.BadParameter("--count and --duration must be positive")
    words = FilterWords(
        src=src, dst=dst, host=host, proto=proto, port=port, sport=sport, dport=dport, iif=iif, oif=oif, netns=netns,
        pid=pid, comm=comm, unit=unit, uid=uid, mark=mark, table=table, role=role, drops=drops, family=family,
        purpose=purpose,
    )  # fmt: skip
    return run(
        TraceOptions(
            filter=words,
            outputs=tuple(output or ()),
            stdout_format=None if format_ == "none" else format_,
            command=tuple(command or ()),
            user=user,
            alone=True,
            count=count,
            duration_s=duration,
            stacks=stacks,
            ring_mb=ring_mb,
            strict=strict,
            backend=backend,
            changes=shown_changes(changes=changes, neighbours=neighbours),
            why=why,
        )
    )
