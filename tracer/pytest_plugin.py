"""The pytest plugin: a fixture that asserts the paths of the packets which a block of a test causes.

`with fibtrace.expect(flow={"dst": "10.2.0.2"}, via=[{"netns": "r", "dev": "wg0"}]): send()`
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tracer.errors import NotPermitted, NotSupported


class Fibtrace:
    """What the fixture `fibtrace` gives."""

    def __init__(self, name: str) -> None:
        self._name = name

    @contextlib.contextmanager
    def expect(self, *, allow_incomplete: bool = False, **keys: Any) -> Iterator[None]:
        """Trace the block, then assert one expectation; its keys are those of `[[expect]]` (docs/expect.md).

        Fails the test with the report of `fibtrace expect`; skips it where this process or kernel cannot trace.
        """
        __tracebackhide__ = True
        from tracer.expect.judge import Judge, State
        from tracer.expect.parse import expectation
        from tracer.expect.report import describe
        from tracer.livetrace import live

        judge = Judge([expectation(keys.pop("name", self._name), **keys)])
        with contextlib.ExitStack() as stack:
            try:
                trace = stack.enter_context(live())
            except (NotPermitted, NotSupported) as error:
                pytest.skip(f"fibtrace cannot trace here: {error}")
            yield
        for path in trace.paths():
            judge.feed(path)
        (result,) = judge.results("records were lost" if trace.lost else "")
        accepted = {State.PASSED, State.UNJUDGED} if allow_incomplete else {State.PASSED}
        if result.state not in accepted:
            raise AssertionError(describe(result))


@pytest.fixture
def fibtrace(request: pytest.FixtureRequest) -> Fibtrace:
    """Assert which rules, tables and routes packets take: `with fibtrace.expect(flow=…, via=…): …`."""
    return Fibtrace(request.node.name)
