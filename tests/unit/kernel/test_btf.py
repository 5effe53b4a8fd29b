"""The kernel's types as C: what is mended in what libbpf writes."""

from __future__ import annotations

from tracer.kernel.btf import with_named_padding

DUMPED = """\
struct idr {
	int first;
	long: 64;
	long: 64;
	struct {
		int count;
		long: 64;
		long: 64;
	};
	unsigned long flag: 1;
	long: 63;
	long last;
};
"""


def test_padding_of_whole_words_gets_names_that_differ():
    """Each becomes a member of its own, at any depth; what is narrower than a word stays a bitfield."""
    text = with_named_padding(DUMPED)
    names = [line.strip() for line in text.splitlines() if "padding" in line]
    assert len(names) == len(set(names)) == 4
    assert all(name.startswith("long fibtrace_padding_") for name in names)
    assert "long: 64" not in text
    assert "\tlong: 63;\n" in text


def test_nothing_else_is_touched():
    """The text without these lines is the same as before."""
    without = [line for line in with_named_padding(DUMPED).splitlines() if "padding" not in line]
    assert without == [line for line in DUMPED.splitlines() if line.strip() != "long: 64;"]
