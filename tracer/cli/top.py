"""`fibtrace top`: live counters of rules, routes, tables, verdicts, drop reasons and callers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

_NO_PORTS = "a lookup's flow key does not have it on input"
_REFUSED = {
    "--proto": _NO_PORTS,
    "--port": _NO_PORTS,
    "--sport": _NO_PORTS,
    "--dport": _NO_PORTS,
    "--oif": "a decision is counted before its packet leaves",
    "--pid": "a softirq's lookups belong to no process",
    "--comm": "a softirq's lookups belong to no process",
    "--role": "only a whole path has a role",
}


def _option(name: str, metavar: str, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text)


def _refused(name: str) -> Any:
    return typer.Option(name, hidden=True)


def top(  # noqa: PLR0913 - one parameter per option of the contract
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Run this and count until it ends.")
    ] = None,
    *,
    src: Annotated[str | None, _option("--src", "CIDR", "Source address or prefix in the lookup.")] = None,
    dst: Annotated[str | None, _option("--dst", "CIDR", "Destination address or prefix.")] = None,
    host: Annotated[str | None, _option("--host", "CIDR", "Address or prefix of either end.")] = None,
    iif: Annotated[str | None, _option("--iif", "DEV", "Device a packet came in on.")] = None,
    netns: Annotated[str | None, _option("--netns", "NAME|PID|inode", "Network namespace.")] = None,
    uid: Annotated[int | None, _option("--uid", "N", "User of a sending socket.")] = None,
    mark: Annotated[str | None, _option("--mark", "M[/MASK]", "Firewall mark.")] = None,
    table: Annotated[str | None, _option("--table", "T", "Decisions that searched this table.")] = None,
    purpose: Annotated[
        str | None, _option("--purpose", "P", "input, output, source-check, query or other.")
    ] = None,
    family: Annotated[int | None, _option("--family", "4|6", "Address family.")] = None,
    by: Annotated[
        list[str] | None,
        _option("--by", "KIND", "rule, route, table, verdict, reason or caller; several allowed."),
    ] = None,
    unused: Annotated[bool, typer.Option("--unused", help="List rules and routes that nothing hit.")] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="With --unused: local and broadcast routes, too.")
    ] = False,
    interval: Annotated[float, _option("--interval", "S", "Refresh every S seconds.")] = 1.0,
    duration: Annotated[float | None, _option("--duration", "S", "End after S seconds.")] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print once, at the end of --duration (1 s by default).")
    ] = False,
    format_: Annotated[str, _option("--format", "table|csv|jsonl", "What stdout gets.")] = "table",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 5 if anything was lost.")] = False,
    proto: Annotated[str | None, _refused("--proto")] = None,
    port: Annotated[str | None, _refused("--port")] = None,
    sport: Annotated[str | None, _refused("--sport")] = None,
    dport: Annotated[str | None, _refused("--dport")] = None,
    oif: Annotated[str | None, _refused("--oif")] = None,
    pid: Annotated[str | None, _refused("--pid")] = None,
    comm: Annotated[str | None, _refused("--comm")] = None,
    role: Annotated[str | None, _refused("--role")] = None,
) -> int:
    """Count what each rule, route and table is used for, in the kernel: hits, rate, last hit.

    With COMMAND after `--`, count until it ends; its exit code is ours.
    """
    from tracer.enrich.resolve import FilterWords
    from tracer.top.items import KINDS
    from tracer.top.session import TopOptions
    from tracer.top.session import top as run

    given = zip(_REFUSED, (proto, port, sport, dport, oif, pid, comm, role), strict=True)
    _refuse([name for name, value in given if value is not None])
    if interval <= 0 or (duration is not None and duration <= 0):
        raise typer.BadParameter("--interval and --duration must be positive")
    words = FilterWords(
        src=src, dst=dst, host=host, iif=iif, netns=netns, uid=uid, mark=mark, table=table, purpose=purpose,
        family=family,
    )  # fmt: skip
    return run(
        TopOptions(
            filter=words,
            kinds=tuple(by or (("rule", "route") if unused else KINDS)),
            format=format_,
            interval_s=interval,
            duration_s=duration,
            once=once,
            unused=unused,
            everything=all_,
            strict=strict,
            command=tuple(command or ()),
        )
    )


def _refuse(names: list[str]) -> None:
    """Filters of `trace` that counters cannot have."""
    from tracer.errors import BadRequest

    if names:
        raise BadRequest(
            f"{names[0]}: top counts lookups, and {_REFUSED[names[0]]}\n  try: fibtrace trace {names[0]} …"
        )
