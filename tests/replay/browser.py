"""A real browser for pages: headless Chromium, without a network, and with ears for everything it complains about."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

READY = "document.documentElement.dataset.ready === 'yes'"


def why_no_browser() -> str:
    """What is missing to open a page; empty if nothing is."""
    if not shutil.which("chromium"):
        return "no chromium here: `sudo scripts/setup dev` installs it on Debian"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "no playwright here: `scripts/setup dev` installs it"
    return ""


@dataclass
class Opened:
    """A page in the browser; `said` is what stood on its console, `asked` every address it wanted."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def js(self, code: str) -> Any:
        """The value of an expression in the page; `page`, `model` and `data` are those of the report."""
        names = "const {page} = fibtrace; const model = page && page.model; const data = model && model.data;"
        return self.page.evaluate(f"(() => {{ {names} return {code}; }})()")

    def trees(self) -> list[str]:
        """The trees of all listed paths, as the page shows them."""
        return self.js("Array.from({length: model.paths}, (_, i) => fibtrace.treeText(model, i))")

    def rows(self) -> list[list[str]]:
        """The rows of the table that are in sight."""
        cells = "[...row.children].map((cell) => cell.textContent)"
        return self.js(f"[...document.querySelectorAll('.grid .body .row')].map((row) => {cells})")

    def tab(self, name: str) -> None:
        """Open a table."""
        self.page.get_by_role("tab", name=name).click()

    def row(self, number: int) -> None:
        """Click a row of the table, from 0."""
        self.page.locator(f".grid .body #row{number}").click()

    def chosen(self) -> str:
        """What the page says is selected."""
        return self.page.locator("#chosen").inner_text()


@contextmanager
def chromium():
    """A browser that opens pages; it is closed at the end."""
    if reason := why_no_browser():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
        )
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Any, file: Path, **context: Any) -> Opened:
    """Open a file without any network, and wait until the page has drawn itself."""
    settings = {"viewport": {"width": 1440, "height": 1000}, "offline": True, **context}
    opened = Opened(browser.new_context(**settings).new_page())
    opened.page.on("console", lambda message: opened.said.append(message.text))
    opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.page.on("request", lambda request: opened.asked.append(request.url))
    opened.page.goto(file.as_uri())
    opened.page.wait_for_function(READY)
    return opened
