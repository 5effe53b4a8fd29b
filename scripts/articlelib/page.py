"""A page as text and figures: a figure's directive is an HTML comment, what it shows stands below it.

    <!-- figure
    run: fibtrace lab run router
    show: 10.1.0.2:* → 10.2.0.2:9000 udp
    -->
    (written by scripts/article)
    <!-- end of figure -->

`run` is a command, each on its own line, as a reader would type it without sudo. What is shown of them is either
`show` (packets of the last trace: their header, and after `|` a text that must be in the tree; each searched after the
one before), `columns` and `where` (rows of the file that the trace wrote with -o), or `output` (what was printed).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_FIGURE = re.compile(
    r"(<!-- figure\n(?P<directive>.*?)-->\n)(?P<body>.*?)(<!-- end of figure -->)", re.DOTALL
)
KEYS = {"run", "show", "columns", "where", "output"}


@dataclass(frozen=True)
class Figure:
    """One figure of a page: what is run, what is shown of it, and what the page shows now."""

    run: tuple[str, ...]
    show: tuple[str, ...]
    columns: str
    where: str
    output: bool
    body: str

    @property
    def name(self) -> str:
        """What tells it from the others: what is run, and what is shown of that."""
        command = next((line for line in self.run if not re.search(r"\b(up|down)\b", line)), self.run[0])
        return "; ".join((command, *(self.show or (self.columns or "output",))))

    @property
    def lab(self) -> str | None:
        """The lab that it runs, if it runs one."""
        found = re.search(r"\blab (?:run|up) (\S+)", "\n".join(self.run))
        return found[1] if found else None


def figures(text: str) -> list[Figure]:
    """All figures of a page, in order."""
    return [_figure(match["directive"], match["body"]) for match in _FIGURE.finditer(text)]


def rewrite(text: str, body_of: Callable[[Figure], str]) -> str:
    """The page with each figure's body replaced."""

    def replaced(match: re.Match[str]) -> str:
        return match[1] + body_of(_figure(match["directive"], match["body"])) + match[4]

    return _FIGURE.sub(replaced, text)


def _figure(directive: str, body: str) -> Figure:
    lines = [line.partition(":") for line in directive.splitlines() if line.strip()]
    unknown = {key.strip() for key, _, _ in lines} - KEYS
    if unknown:
        raise SystemExit(
            f"error: figures have no {', '.join(sorted(unknown))}\n  there is: {', '.join(sorted(KEYS))}"
        )
    values = {key: tuple(value.strip() for k, _, value in lines if k.strip() == key) for key in KEYS}
    return Figure(
        run=values["run"],
        show=values["show"],
        columns="".join(values["columns"]),
        where="".join(values["where"]),
        output=bool(values["output"]),
        body=body,
    )


def normal(text: str) -> str:
    """What must be the same in every run: no times, packet numbers, process ids, chosen ports, column widths.

    Nor the mark of what was inferred: other backends see rules, and the page is made by raw tracepoints.
    """
    # What changed in between is noticed at another moment each time; links through programs have tests of their own.
    text = re.sub(r"^\* path changed .*\n(  .*\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"^.*relayed by .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^#\d+  ", "#  ", text, flags=re.MULTILINE)
    text = re.sub(r"decided by #\d+", "decided by #", text)
    text = text.replace("rule ~", "rule ").replace("~cached", "cached").replace("~no lookup", "no lookup")
    text = re.sub(r"\b\d+\.\d{3} ms$", "ms", text, flags=re.MULTILINE)
    text = re.sub(r"\[\d+\]", "[]", text)
    text = re.sub(r":([2-5]\d|6[0-5])\d{3}\b", ":port", text)
    text = re.sub(r"expires \d+sec", "expires", text)
    return re.sub(r"[ \t]+", " ", text)
