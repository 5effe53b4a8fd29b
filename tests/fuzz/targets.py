"""What takes input from outside: for each, how bad input is made, and what is done with it.

A case holds when it ends well or with a TracerError. Any other exception is a finding, as is one that takes long.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.mutations import BYTE_EDITS, JSON_EDITS, TEXTS, as_json, changed, damaged
from tests.unit.enrich.test_filters_resolve import NAMES, network
from tests.unit.outputs.builder import design_rows, many, strange_rows, tunnel_rows
from tracer.enrich import bulk, decode, netlink, question, snapshot
from tracer.enrich.netlink import Block
from tracer.enrich.resolve import FilterWords, resolve
from tracer.errors import TracerError
from tracer.expect.parse import read_expectations
from tracer.kernel.btf import KernelTypes, with_named_padding
from tracer.offline import explain_offline, read_snapshot
from tracer.outputs.registry import open_output
from tracer.replay import convert
from tracer.wire import layout
from tracer.wire.capture import CaptureReader, CaptureWriter, Kind

TOP = Path(__file__).resolve().parents[2]
WIRE = TOP.joinpath("bpf", "wire.h").read_text()
PLACE = Path(tempfile.gettempdir(), f"fibtrace-fuzz-{os.getpid()}")
FORMATS = ("tree", "line", "csv", "jsonl")


@dataclass(frozen=True)
class Target:
    """How cases are made, what is done with one, and which share of all cases it gets."""

    cases: st.SearchStrategy[Any]
    run: Callable[[Any], object]
    share: int = 1


def outcome(run: Callable[[Any], object], case: Any) -> str:
    """`good`, or `refused` by a clear error of at most three lines; anything else passes through."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run(case)
    except TracerError as error:
        lines = str(error).splitlines()
        if not lines or error.code == 0:
            raise AssertionError(f"not a clear error: {error!r}") from error
        return "refused"
    return "good"


@contextlib.contextmanager
def file(name: str, data: bytes) -> Iterator[Path]:
    """A file with this content."""
    PLACE.mkdir(exist_ok=True)
    path = PLACE / name
    path.write_bytes(data)
    yield path
    path.unlink()
    with contextlib.suppress(OSError):
        PLACE.rmdir()


@cache
def seed(suffix: str) -> bytes:
    """A good file of rows."""
    with file(f"seed.{suffix}", b"") as path:
        output = open_output(path)
        for table in (design_rows().table(), many(2), tunnel_rows().table(), strange_rows().table()):
            output.write(table)
        output.close()
        return path.read_bytes()


@cache
def objects() -> list[Any]:
    """The JSON objects of a good file."""
    return [json.loads(line) for line in seed("jsonl").splitlines()]


@cache
def frames(name: str) -> tuple[dict[str, Any], list[tuple[Kind, Any]]]:
    """A recorded capture: its header, and its frames with their values."""
    with CaptureReader(TOP / "tests" / "replay" / f"{name}.fibtrace") as reader:
        found = [(f.kind, f.payload if f.kind is Kind.RECORDS else f.json()) for f in reader.frames()]
        return reader.header, [(Kind(kind), value) for kind, value in found]


@cache
def world() -> dict[str, Any]:
    """A snapshot of what a recorded capture knew."""
    _, found = frames("policy-throw")
    (known, *_) = [value for kind, value in found if kind is Kind.NETWORK]
    return {"snapshot": 1, "kernel": "6.1", "time_ns": 1, "namespaces": known["namespaces"]}


def convert_rows(case: tuple[str, list[Any], str]) -> None:
    """A damaged file of rows into another format."""
    suffix, edits, wanted = case
    with file(f"case.{suffix}", damaged(seed(suffix), edits)) as path:
        convert(path, io.StringIO(), wanted)


def convert_objects(case: tuple[list[Any], str]) -> None:
    """JSON Lines that are JSON, with values that make no sense."""
    edits, wanted = case
    index, *way = edits[0][0]
    good = objects()
    at = index % len(good)
    bad = changed(good[at], [(way or [0], *edits[0][1:]), *edits[1:]])
    with file("case.jsonl", b"\n".join(as_json(one) for one in (*good[:at], bad, good[0])) + b"\n") as path:
        convert(path, io.StringIO(), wanted)


def convert_bytes(case: tuple[list[Any], str]) -> None:
    """A raw capture with damaged bytes: the checksums see most of it."""
    edits, wanted = case
    data = TOP.joinpath("tests", "replay", "rpfilter.fibtrace").read_bytes()
    with file("case.fibtrace", damaged(data, edits)) as path:
        convert(path, io.StringIO(), wanted)


def convert_frames(case: tuple[int, list[Any], list[Any], str]) -> None:
    """A raw capture whose checksums are right and whose contents are not: one frame, or the header, is damaged."""
    which, edits, bytes_, wanted = case
    header, found = frames("rpfilter")
    which %= len(found) + 1
    with file("case.fibtrace", b"") as path:
        head = changed(header, edits) if which == len(found) else header
        writer = CaptureWriter(path, header)
        if head is not header:
            os.ftruncate(writer._fd, 16)
            os.lseek(writer._fd, 16, os.SEEK_SET)
            writer._frame(Kind.HEADER, as_json(head))
        for index, (kind, value) in enumerate(found):
            hit = index == which
            if kind is Kind.RECORDS:
                writer.write_records(damaged(value, bytes_) if hit else value)
            else:
                writer._frame(kind, as_json(changed(value, edits) if hit else value))
        writer.close()
        convert(path, io.StringIO(), wanted, why=wanted == "tree", changes="all")


def use_snapshot(case: tuple[list[Any], str]) -> None:
    """A snapshot that is JSON and makes no sense: read, and asked."""
    edits, words = case
    with file("case.json", as_json(changed(world(), edits))) as path:
        explain_offline(words.split(), str(path), "tree")
        snapshot.read(str(path))


def read_bytes(edits: list[Any]) -> None:
    """A snapshot with damaged bytes."""
    with file("case.json", damaged(json.dumps(world()).encode(), edits)) as path:
        read_snapshot(str(path))


def read_toml(text: str) -> None:
    """A file of expectations."""
    with file("case.toml", text.encode(errors="surrogatepass")) as path:
        read_expectations(path)


def take_message(data: bytes) -> None:
    """A netlink datagram through the decoder of its kind, and as a route of a large table."""
    for message in netlink.parse(data):
        for kinds, decoder in DECODERS.items():
            if message.type in kinds:
                decoder(message)


def take_block(data: bytes) -> None:
    """A dump of routes, one message."""
    bulk._parsed(Block(data, [0]), 2)


def take_types(text: str) -> None:
    """What libbpf would print of the kernel's types."""
    types = object.__new__(KernelTypes)
    types._arguments = {}
    types.dump = lambda *_: with_named_padding(text)
    types._find = lambda *_: 1
    types.enum("skb_drop_reason")
    types.tracepoint_arguments("kfree_skb")


DECODERS = {
    (32, 33): decode.rule, (24, 25): decode.route, (16, 17): decode.link, (20, 21): decode.address,
    (28, 29): decode.neighbour, (104, 105): decode.nexthop_object,
}  # fmt: skip
EXPECTED = """
[[expect]]
name = "web"
flow = { src = "10.1.0.0/24", dst = "10.2.0.2", proto = "tcp", dport = 80 }
via = [{ netns = "r", rule = 100, table = "100", dev = "r1" }, { netns = "s", verdict = "deliver" }]
never = [{ netns = "x" }]
verdict = "deliver"
hops = ["c", "r"]
count = { min = 1, max = 5 }
within_ms = 10.5
"""
KERNEL_TYPES = """enum skb_drop_reason {\n\tSKB_NOT_DROPPED_YET = 0,\n\tSKB_CONSUMED = 1,\n};
struct sock {\n\tlong: 64;\n\tint a: 3;\n};
typedef void (*btf_trace_kfree_skb)(void *, struct sk_buff *, void *, enum skb_drop_reason);
"""
WORDS = st.sampled_from(
    ["", "10.1.0.0/24", "::1", "10.1.0.2/99", "tcp", "6", "0x1/0xf", "0x", "1/2/3", "-1", "٣", "²", "1" * 5000,
     "main", "100", "eth0", "a", "router", "input", *TEXTS]
) | st.text(max_size=12)  # fmt: skip
WHOLE = st.sampled_from([None, 0, -1, 4, 6, 80, 65535, 65536, 2**32, 2**70])
FILTER = {
    item.name: WHOLE
    if "int" in str(item.type)
    else st.booleans()
    if item.type == "bool"
    else st.none() | WORDS
    for item in fields(FilterWords)
}
QUESTION = st.sampled_from(
    [
        "10.2.0.2",
        "from",
        "to",
        "iif",
        "oif",
        "mark",
        "tos",
        "ipproto",
        "sport",
        "dport",
        "uid",
        "netns",
        "r0",
        "80",
        "0x1",
    ]
)
ASKED = st.lists(st.tuples(QUESTION, QUESTION | WORDS), max_size=4).map(
    lambda pairs: ["10.2.0.2", *sum(pairs, ())]
)


def attributes(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    """Netlink attributes, some with lengths that lie."""
    one = st.tuples(numbers, st.binary(max_size=16), st.sampled_from([0, 0, 0, 0, 1, -3, 200]))
    return st.lists(one, max_size=6).map(
        lambda found: b"".join(
            (max(len(data) + 4 + lie, 0)).to_bytes(2, sys.byteorder)
            + number.to_bytes(2, sys.byteorder)
            + data
            + bytes(-len(data) % 4)
            for number, data, lie in found
        )
    )


@st.composite
def messages(draw: Any, kinds: tuple[int, ...] = (16, 17, 20, 24, 25, 28, 32, 33, 104)) -> bytes:
    """A netlink message with any attributes."""
    body = draw(st.binary(min_size=12, max_size=16)) + draw(attributes(st.integers(0, 40)))
    length = 16 + len(body) + draw(st.sampled_from([0, 0, 0, -8, 40]))
    head = length.to_bytes(4, sys.byteorder) + draw(st.sampled_from(kinds)).to_bytes(2, sys.byteorder)
    return head + bytes(10) + body


def text_edits(text: str) -> st.SearchStrategy[str]:
    """A text with damaged bytes, as far as they are UTF-8."""
    return BYTE_EDITS.map(lambda edits: damaged(text.encode(), edits).decode(errors="replace"))


KEYS = ("name", "flow", "via", "never", "verdict", "reason", "hops", "count", "within_ms", "dst", "rule", "x")
VALUES = (
    "1", "-1", "1e400", "nan", "true", '""', '"x"', "[]", "{}", "[{}]", "[[1]]", "1979-05-27", '{ dst = "x" }',
    "[{ rule = [1] }]", "{ proto = 1e9 }", '"\\u001b[2J"', '">= 0"', "9" * 30,
)  # fmt: skip


def toml_values() -> st.SearchStrategy[str]:
    """Expectations with values of the wrong kind."""
    line = st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)).map(" = ".join)
    return st.lists(line, max_size=5, unique=True).map(
        lambda lines: '[[expect]]\nname = "n"\n' + "\n".join(lines) + "\n"
    )


ROWS = st.tuples(st.sampled_from(["csv", "jsonl", "parquet"]), BYTE_EDITS, st.sampled_from(FORMATS))
TARGETS = {
    "rows": Target(ROWS, convert_rows, 2),
    "objects": Target(st.tuples(JSON_EDITS, st.sampled_from(FORMATS)), convert_objects, 2),
    "capture": Target(st.tuples(BYTE_EDITS, st.sampled_from(FORMATS)), convert_bytes),
    "frames": Target(
        st.tuples(st.integers(0, 99), JSON_EDITS, BYTE_EDITS, st.sampled_from(FORMATS)), convert_frames
    ),
    "filters": Target(
        st.fixed_dictionaries({}, optional=FILTER),
        lambda words: resolve(FilterWords(**words), network(), NAMES),
        4,
    ),
    "questions": Target(
        st.lists(QUESTION | WORDS, max_size=8) | ASKED, lambda words: question.parse(words, NAMES), 4
    ),
    "expectations": Target(text_edits(EXPECTED) | toml_values(), read_toml, 4),
    "netlink": Target(messages(), take_message, 8),
    "dumps": Target(messages((24,)), take_block, 4),
    "types": Target(text_edits(KERNEL_TYPES), take_types, 2),
    "wire": Target(text_edits(WIRE), layout.parse, 2),
    "snapshots": Target(
        st.tuples(JSON_EDITS, st.sampled_from(["10.2.0.2", "10.2.0.2 netns r", "10.9.0.1 netns c mark 1"])),
        use_snapshot,
        2,
    ),
    "snapshot-bytes": Target(BYTE_EDITS, read_bytes, 2),
}
SHARES = sum(target.share for target in TARGETS.values())
