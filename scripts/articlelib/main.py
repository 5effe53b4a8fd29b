"""Writes the figures and pictures of docs/how-linux-routes-packets.md anew, or compares them.

    sudo scripts/article             run every figure's commands; write those figures that differ in what is stable
    sudo scripts/article --all       write all, also where only times, ports and process ids differ
    sudo scripts/article --check     write nothing; exit 1 if one differs
    scripts/article --pictures       only the pictures (no root needed)

Further words choose figures: those whose commands contain one of them. A figure whose lab cannot run on this machine
is left as it is, and named.
"""

# ruff: noqa: T201 - a program that prints

from __future__ import annotations

import difflib
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP), str(TOP / "scripts")]

from articlelib import pictures  # noqa: E402 - needs the lines above
from articlelib.page import Figure, normal, rewrite  # noqa: E402

PAGE = TOP / "docs" / "how-linux-routes-packets.md"


class Writer:
    """Renders the figures that are asked for and keeps account of them."""

    def __init__(self, words: list[str], *, every: bool) -> None:
        self.words = words
        self.every = every
        self.changed: list[str] = []
        self.same = 0

    def body(self, figure: Figure) -> str:
        """What the page shows of a figure from now on."""
        from articlelib.runs import missing, render

        if self.words and not any(word in "\n".join(figure.run) for word in self.words):
            return figure.body
        if reason := missing(figure) or impossible(figure):
            print(f"left    {figure.name}: {reason}")
            return figure.body
        body = render(figure)
        if normal(body) == normal(figure.body):
            self.same += 1
            return body if self.every else figure.body
        self.changed.append(figure.name)
        print(f"differs {figure.name}")
        print(
            "\n".join(
                difflib.unified_diff(normal(figure.body).splitlines(), normal(body).splitlines(), lineterm="")
            )
        )
        return body


def impossible(figure: Figure) -> str | None:
    """Why this machine cannot run the figure's lab, if it cannot."""
    from tracer.lab.catalog import labs
    from tracer.lab.needs import why_not

    if figure.lab is None:
        return None
    if figure.lab not in labs():
        raise SystemExit(f"error: a figure names the lab {figure.lab}, which does not exist")
    return why_not(labs()[figure.lab])


def main(arguments: list[str]) -> int:
    """Do what was asked for; returns the exit code."""
    options = {word for word in arguments if word.startswith("-")}
    if options - {"--all", "--check", "--pictures"}:
        print(__doc__, file=sys.stderr)
        return 2
    check = "--check" in options
    stale = pictures.write(TOP / "docs" / "article", check=check)
    if "--pictures" in options:
        return int(check and bool(stale))
    writer = Writer([word for word in arguments if word not in options], every="--all" in options)
    text = PAGE.read_text(encoding="utf-8")
    new = rewrite(text, writer.body)
    if not check and new != text:
        PAGE.write_text(new, encoding="utf-8")
    print(f"{writer.same} figures are the same, {len(writer.changed)} differ, {len(stale)} pictures differ")
    return int(check and bool(writer.changed or stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
