"""RTM_GETROUTE: the question of `ip route get` to the kernel, and all that its answer says."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracer.enrich import decode
from tracer.enrich.netlink import RTM_F_FIB_MATCH, RTM_F_LOOKUP_TABLE, NetlinkError, RouteSocket
from tracer.enrich.selectors import FlowKey
from tracer.model.network import IPV4, Route

if TYPE_CHECKING:
    from tracer.enrich.question import Question

GET_ROUTE = 26
_CACHE_INFO = struct.Struct("IIiIIIII")
_TICKS_PER_S = 100
_REDIRECTED = 0x00040000
_MTU = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel answered; `error` is a positive errno, and then there is no route.

    `expires_s` is above 0 where an exception of the route is used (a learned MTU, a redirect).
    """

    error: int = 0
    route: Route | None = None
    source: int = 0
    mtu: int = 0
    expires_s: float = 0.0
    redirected: bool = False

    @property
    def message(self) -> str:
        """As ip(8) prints a refusal."""
        return f"RTNETLINK answers: {os.strerror(self.error)}" if self.error else ""


def ask(question: Question, flow: FlowKey, *, fibmatch: bool = False) -> Answer:
    """Ask in the namespace that is current; with `fibmatch` for the route as it stands in its table."""
    connection = RouteSocket()
    try:
        (found, *_) = connection.ask(GET_ROUTE, *_request(question, flow, fibmatch=fibmatch))
    except NetlinkError as error:
        return Answer(error.code)
    finally:
        connection.close()
    return _answer(found)


def _answer(found: decode.Message) -> Answer:
    route = decode.route(found)
    ticks = _CACHE_INFO.unpack_from(found.attributes[12])[2] if 12 in found.attributes else 0  # noqa: PLR2004
    mtu = dict(route.metrics).get(_MTU, 0)
    return Answer(
        route=route,
        source=route.prefsrc or 0,
        mtu=mtu if isinstance(mtu, int) else 0,
        expires_s=max(ticks, 0) / _TICKS_PER_S,
        redirected=bool(found.fields["flags"] & _REDIRECTED),
    )


def _request(question: Question, flow: FlowKey, *, fibmatch: bool) -> tuple[dict[str, int], dict[int, bytes]]:
    size, bits = (4, 32) if question.family == IPV4 else (16, 128)
    # IPv6 answers with the table anyway, and refuses a question with this flag.
    flags = (RTM_F_LOOKUP_TABLE if question.family == IPV4 else 0) | (RTM_F_FIB_MATCH if fibmatch else 0)
    fields = {"family": question.family, "dst_len": bits, "tos": question.tos, "flags": flags}
    attributes = {1: question.dst.to_bytes(size, "big")}
    if question.src:
        fields["src_len"] = bits
        attributes[2] = question.src.to_bytes(size, "big")
    for number, value, layout in (
        (3, flow.iif if question.iif else 0, "I"), (4, flow.oif, "I"), (16, question.mark, "I"),
        (27, question.proto, "B"), (28, question.sport, ">H"), (29, question.dport, ">H"),
        (31, question.flowlabel, ">I"),
    ):  # fmt: skip
        if value:
            attributes[number] = struct.pack(layout, value)
    if question.uid is not None:
        attributes[25] = struct.pack("I", question.uid)
    return fields, attributes
