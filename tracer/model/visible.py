r"""Names from outside made safe to show: `\x1b[2J` as text instead of an emptied screen.

A device's name may have every byte but `/`, `:` and blanks, a process's all but NUL. A terminal would obey what
it finds there, and a line break would forge a line of ours. Data (JSON Lines, CSV, Parquet) keeps what is.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final

UNSAFE: Final = (
    "[\\x00-\\x1f\\x7f-\\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\\ud800-\\udfff]"
)
"""C0 and C1 controls; what turns the direction of text, or is not seen; halves of characters."""

_UNSAFE: Final = re.compile(UNSAFE)


def visible(text: str) -> str:
    r"""The text with everything unsafe written as `\x1b` or `\u202e`; the same text where there is nothing."""
    return _UNSAFE.sub(_escaped, text)


def lines_visible(text: str) -> str:
    """The same of each line of a text that has lines."""
    return "\n".join(map(visible, text.split("\n")))


def made_visible(value: Any) -> Any:
    """A value (a path, a decision) with every text in it made safe."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(made_visible(item) for item in value)
    if isinstance(value, dict):
        return {key: made_visible(item) for key, item in value.items()}
    if not is_dataclass(value) or isinstance(value, type):
        return value
    before = {item.name: getattr(value, item.name) for item in fields(value) if item.init}
    after = {name: made_visible(item) for name, item in before.items()}
    return replace(value, **{name: item for name, item in after.items() if item is not before[name]})


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004 - what two digits hold
