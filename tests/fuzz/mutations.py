"""Damage of three kinds: to bytes, to the lines and words of a text, and to the values of a JSON document."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

DEEP = "(deep)"
"""Stands for lists in lists, 100,000 deep: no such value can be made in Python."""
NUMBERS = [0, 1, -1, 2, 4, 10, 255, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40, 1e308]
TEXTS = [
    "",
    "x",
    "\ud800",
    "\x1b[2J",
    "\x9b2J",
    "\0",
    "=1+1",
    "a\nb",
    "\u202e",
    "10.0.0.0/8",
    "::1",
    "9" * 5000,
]
JUNK: list[Any] = [
    None, True, False, 0.5, float("inf"), float("nan"), *NUMBERS, *TEXTS,
    [], {}, [[]], [None], [1, 2], [[1, 2]], {"a": 1}, {"count": 10**12}, DEEP,
]  # fmt: skip

BYTE_EDITS = st.lists(
    st.tuples(st.integers(0, 2**16 - 1), st.sampled_from("xridkz"), st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)
"""Where (in 65536ths), what is done, with which bytes."""

JSON_EDITS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2**10), min_size=1, max_size=8),
        st.sampled_from("sdc"),
        st.integers(0, len(JUNK) - 1),
    ),
    min_size=1,
    max_size=3,
)
"""The way to a value, what is done, with which piece of junk."""


def damaged(data: bytes, edits: list[tuple[int, str, bytes]]) -> bytes:
    """Bytes with some changed, put in, taken out, doubled, set to zero; or the end cut off."""
    made = bytearray(data)
    for where, what, junk in edits:
        at = where * len(made) // 2**16
        end = at + len(junk)
        if what == "x":
            made[at:end] = bytes(a ^ b for a, b in zip(made[at:end], junk, strict=False))
        elif what == "r":
            made[at:end] = junk
        elif what == "i":
            made[at:at] = junk
        elif what == "d":
            made[at:end] = made[at:end] * 2
        elif what == "z":
            made[at:end] = bytes(len(made[at:end]))
        else:
            del made[at : at + 1 + len(junk) ** 3]
    return bytes(made)


def changed(value: Any, edits: list[tuple[list[int], str, int]]) -> Any:
    """A copy of a JSON document with values replaced by junk, left out or doubled."""
    made = [copy.deepcopy(value)]
    for way, what, junk in edits:
        inner, key = _at(made, way)
        if what == "s":
            inner[key] = copy.deepcopy(JUNK[junk])
        elif what == "d" and inner is not made:
            del inner[key]
        elif isinstance(inner, list) and inner is not made:
            inner.insert(key, inner[key])
        elif isinstance(inner, dict):
            inner[repr(JUNK[junk])[:20]] = inner.pop(key)
    return made[0]


def as_json(value: Any) -> bytes:
    """A document with lone surrogates, infinities and depths that json.dumps would not write."""
    return json.dumps(value).replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000).encode()


def _at(top: list[Any], way: list[int]) -> tuple[Any, Any]:
    """The container and the key that a way leads to: as far as there is one."""
    inner: Any = top
    key: Any = 0
    for step in way:
        below = inner[key]
        if not isinstance(below, list | dict) or not below:
            break
        keys = list(below) if isinstance(below, dict) else range(len(below))
        inner, key = below, keys[step % len(keys)]
    return inner, key
