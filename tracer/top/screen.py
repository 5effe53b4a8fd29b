"""The table on a terminal, refreshed in place; `q` ends it, as does Ctrl-C."""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import tty
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


class _Part:
    """As much of a text as the terminal has lines for at the moment of drawing."""

    def __init__(self, text: str, footer: str) -> None:
        self._text, self._footer = text, footer

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        rows = self._text.rstrip("\n").split("\n")
        room = max(options.max_height - 1, 1)
        left_out = len(rows) - room
        rows = rows[:room]
        more = f"   {left_out} lines more: --by shows fewer parts" if left_out > 0 else ""
        for row in (*rows, *[""] * (room - len(rows)), f"{self._footer}{more}"):
            yield Text(row[: options.max_width], no_wrap=True, overflow="crop")


class Screen:
    """Context: takes the terminal's second screen, and gives it back as it was."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(highlight=False, markup=False), screen=True, auto_refresh=False)
        self._before: list[object] | None = None

    def __enter__(self) -> Self:
        if sys.stdin is not None and sys.stdin.isatty():
            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    def show(self, text: str, footer: str) -> None:
        """Draw anew."""
        self._live.update(_Part(text, footer), refresh=True)

    def asked_to_end(self) -> bool:
        """Whether `q` was typed."""
        ended = False
        while self._before is not None and select.select([sys.stdin], [], [], 0)[0]:
            typed = sys.stdin.read(1)
            ended = ended or typed in {"q", "Q", ""}
            if not typed:
                break
        return ended
