"""The bytes that cross: Python reads from bpf/wire.h what the compiler makes of it, and refuses the rest."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

from tracer.errors import TracerError
from tracer.wire.layout import Layout, parse

INCLUDES = "#include <stddef.h>\n#include <linux/types.h>\n"
GOOD = "struct s {\n\t__u32 a;\t/* one */\n\t__u32 b[2];\t/* two */\n};\n"


@pytest.fixture(scope="module")
def wire_text(top) -> str:
    return (top / "bpf" / "wire.h").read_text()


@pytest.fixture(scope="module")
def clang() -> str:
    found = shutil.which("clang")
    if found is None:
        pytest.skip("no clang on this machine: scripts/setup dev installs it")
    return found


def asserts(layout: Layout) -> str:
    """C that does not compile unless every offset, size and number is what Python thinks."""
    lines = []
    for struct, dtype in layout.structs.items():
        lines.append(f'_Static_assert(sizeof(struct {struct}) == {dtype.itemsize}, "size of {struct}");')
        for name, (kind, offset) in dtype.fields.items():
            where = f"((struct {struct} *)0)->{name}"
            one = f"{where}[0]" if kind.shape else where
            sign = "<" if np.dtype(kind.base).kind == "i" else ">"
            lines += [
                f'_Static_assert(offsetof(struct {struct}, {name}) == {offset}, "{struct}.{name}");',
                f'_Static_assert(sizeof({where}) == {kind.itemsize}, "size of {struct}.{name}");',
                f'_Static_assert((__typeof__({one}))-1 {sign} 0, "sign of {struct}.{name}");',
            ]
    for enum, members in layout.enums.items():
        lines += [f'_Static_assert({name} == {value}, "{enum}");' for name, value in members.items()]
    return "\n".join(lines)


def compiled(clang: str, text: str, *more: str) -> subprocess.CompletedProcess[str]:
    # -Wpadded: padding that the compiler adds is an error, within and behind.
    arguments = [
        "-target",
        "bpf",
        "-I/usr/include",
        "-I/usr/include/x86_64-linux-gnu",
        "-Wall",
        "-Wpadded",
        "-Werror",
    ]
    command = [clang, *arguments, *more, "-x", "c", "-fsyntax-only", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_the_compiler_agrees_with_python_about_every_field(clang, wire_text):
    """Offsets, sizes, signs and enum values, for the kernel's side; no padding anywhere."""
    layout = parse(wire_text)
    assert {"record", "filter"} <= set(layout.structs)
    done = compiled(clang, f"{INCLUDES}{wire_text}\n{asserts(layout)}\n")
    assert done.returncode == 0, done.stderr


def test_the_compiler_agrees_about_what_top_counts(clang, top):
    """The keys and values of the counters, and the numbers, are for C what Python reads them to be."""
    text = (top / "bpf" / "top" / "wire.h").read_text()
    layout = parse(text)
    assert layout.structs
    done = compiled(clang, f"{INCLUDES}{text}\n{asserts(layout)}\n")
    assert done.returncode == 0, done.stderr


def test_every_field_and_member_of_the_header_is_read(wire_text):
    """As many as there are lines that end in a comment, each with that comment."""
    layout = parse(wire_text)
    inside = [line for line in wire_text.splitlines() if line.startswith("\t")]
    assert sum(len(notes) for notes in layout.notes.values()) == len(inside)
    assert sum(len(dtype.names) for dtype in layout.structs.values()) == sum(";" in line for line in inside)
    assert layout.notes["record"]["ts_ns"] == "CLOCK_MONOTONIC, nanoseconds"
    assert layout.enums["record_kind"]["KIND_LOOKUP"] == 1


def test_the_asserts_would_see_a_difference(clang, wire_text):
    """A layout that is wrong in an offset, a size, a sign or a number does not compile."""
    right = parse(wire_text)
    for word, other in (
        (r"__u64 seq;(.*)\n(.*)__u64 context;", r"__u64 context;\1\n\2__u64 seq;"),
        (r"__u8 comm\[16\];", "__u8 comm[20];"),
        (r"__s32 error;", "__u32 error;"),
        (r"KIND_XMIT = 4,", "KIND_XMIT = 14,"),
    ):
        wrong = re.sub(word, other, wire_text, count=1)
        assert wrong != wire_text
        done = compiled(clang, f"{INCLUDES}{wrong}\n{asserts(right)}\n")
        assert "static assertion failed" in done.stderr or "static_assert failed" in done.stderr, done.stderr


def test_implicit_padding_is_refused_by_both(clang):
    """Python names the struct; the compiler stops as well."""
    text = "struct s {\n\t__u8 a;\t/* one */\n\t__u32 b;\t/* two */\n};\n"
    with pytest.raises(TracerError, match="struct s has implicit padding; declare it as reserved"):
        parse(text)
    done = compiled(clang, f"{INCLUDES}{text}int size = sizeof(struct s);\n")
    assert "padding struct" in done.stderr


def test_padding_at_the_end_is_refused():
    """An array of records would have it between them."""
    with pytest.raises(TracerError, match="struct s has implicit padding"):
        parse("struct s {\n\t__u64 a;\t/* one */\n\t__u32 b;\t/* two */\n};\n")
    with pytest.raises(TracerError, match="struct s is 2 bytes, not a multiple of 4"):
        parse("struct s {\n\t__u16 a;\t/* one */\n};\n")


@pytest.mark.parametrize(
    "line",
    [
        "__u32 c : 3;\t/* a bitfield */",
        "__u32 *c;\t/* a pointer */",
        "void *c;\t/* a pointer */",
        "__u32 c;",
        "__u32 c;\t/* */",
        "__u32 c; // of C++",
        "__u32 c, d;\t/* two */",
        "__u32 c[2][2];\t/* two dimensions */",
        "__u32 c[N];\t/* a name for a number */",
        "unsigned int c;\t/* no fixed width */",
        "__be32 c;\t/* an order of bytes */",
        "__u128 c;\t/* no such type */",
        "struct t c;\t/* another struct */",
        "union { __u32 c; };\t/* a union */",
        "NAME = 3,\t/* a member of an enum */",
        "",
    ],
)
def test_what_is_outside_the_subset_is_refused_with_its_line(line):
    """The line's number and text; nothing is guessed."""
    text = GOOD.replace("\t__u32 b[2];", f"\t{line}\n\t__u32 b[2];")
    with pytest.raises(TracerError, match=r"^wire\.h line 3: a field must be") as caught:
        parse(text)
    assert str(caught.value).endswith(line)


@pytest.mark.parametrize(
    "member",
    [
        "A,\t/* no number */",
        "A = 1,",
        "A = B,\t/* a name */",
        "A = 1\t/* no comma */",
        "__u32 a;\t/* a field */",
    ],
)
def test_what_is_no_member_of_an_enum_is_refused_with_its_line(member):
    """Each has a number and a comment of its own."""
    with pytest.raises(TracerError, match=r"^wire\.h line 3: a member must be"):
        parse(f"enum e {{\n\tZ = 0,\t/* zero */\n\t{member}\n}};\n")


@pytest.mark.parametrize(
    "line", ["typedef int x;", "static int x;", "union u {", "struct s;", "};", "__u32 a;\t/* outside */"]
)
def test_what_stands_outside_of_blocks_is_refused_with_its_line(line):
    """Only structs, enums, the preprocessor and comments."""
    with pytest.raises(TracerError, match=r"^wire\.h line 6: not understood: "):
        parse(f"{GOOD}\n{line}\n")


def test_comments_of_several_lines_do_not_move_the_numbers():
    """The line named is the line in the file."""
    with pytest.raises(TracerError, match=r"^wire\.h line 4: not understood: bad"):
        parse("/* one\n * two\n * three */\nbad\n")


def test_the_ring_puts_two_words_before_a_record(wire_text):
    """kernel/bpf/ringbuf.c: length and page, then the record, eight-aligned so that an array fits the ring."""
    layout = parse(wire_text)
    assert layout.ring_record.names == ("ring_length", "ring_page", "record")
    assert layout.ring_record.fields["record"][1] == 8
    assert layout.record.itemsize % 8 == 0


def test_members_lose_the_prefix_that_c_needs(wire_text):
    """As an IntEnum."""
    kinds = parse(wire_text).enum("record_kind", "KIND_")
    assert (kinds.LOOKUP, kinds.NEIGHBOUR) == (1, 11)
