"""Every lab by every backend on several kernels: `python -m vmlab.matrix KERNEL...`; prints a table in Markdown.

Ends with `N passed, N failed[, N skipped]` over all kernels, as scripts/test does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

TOP = Path(__file__).resolve().parents[2]
BACKENDS = ("tracepoint", "kprobe", "fentry")
_AT_ONCE = 2
_LIMIT_S = 2400
_COMMAND = (
    '.venv/bin/python -m pytest --color=no -q -p no:cacheprovider --junitxml="$FIBTRACE_OUT/results.xml" tests/vm'
    ' > "$FIBTRACE_OUT/pytest.txt" 2>&1; code=$?; uname -r > "$FIBTRACE_OUT/release"; exit $code'
)


@dataclass
class Result:
    """What came out on one kernel: (passed, failed, skipped) by backend, and what backends agree on."""

    kernel: str
    release: str = ""
    seconds: float = 0.0
    code: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    agreement: list[str] = field(default_factory=list)
    output: str = ""

    @property
    def total(self) -> Counter[str]:
        """All tests of this kernel; a run that did not get to an end is one that failed."""
        found = sum(self.counts.values(), Counter[str]())
        return found if found or not self.code else Counter(failed=1)


def run_kernel(kernel: str) -> Result:
    """Run tests/vm on one kernel."""
    result, started = Result(kernel), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fibtrace-matrix-") as name:
        share = Path(name)
        words = ["--timeout", str(_LIMIT_S), "--share", name, kernel, "--", "sh", "-c", _COMMAND]
        done = subprocess.run([TOP / "scripts/vm", *words], capture_output=True, text=True, check=False)
        result.code, result.seconds = done.returncode, time.monotonic() - started
        result.release = _read(share / "release").strip() or kernel
        result.output = _read(share / "pytest.txt") or done.stdout + done.stderr
        if (share / "results.xml").exists():
            result.counts = count(_read(share / "results.xml"))
        for file in sorted(share.glob("agreement-*.txt")):
            result.agreement += file.read_text().splitlines()
    return result


def count(junit: str) -> dict[str, Counter[str]]:
    """Passed, failed and skipped tests by the backend in their name; `all` are those of all backends."""
    found: dict[str, Counter[str]] = {}
    for case in ET.fromstring(junit).iter("testcase"):  # noqa: S314 - written by our own pytest
        backend = _backend(case.attrib["name"])
        children = {child.tag for child in case}
        state = (
            "failed" if children & {"failure", "error"} else "skipped" if "skipped" in children else "passed"
        )
        found.setdefault(backend, Counter())[state] += 1
    return found


def _backend(test: str) -> str:
    """The backend in a test's parameters; tests of agreement name two."""
    return next((name for name in BACKENDS if f"[{name}-" in test and "agree" not in test), "all")


def table(results: list[Result]) -> str:
    """The results in Markdown."""
    lines = ["| kernel | " + " | ".join(BACKENDS) + " | all at once | minutes |"]
    lines.append("| --- |" + " --- |" * (len(BACKENDS) + 2))
    for result in results:
        cells = [_cell(result.counts.get(name)) for name in (*BACKENDS, "all")]
        lines.append(f"| {result.release} | {' | '.join(cells)} | {result.seconds / 60:.1f} |")
    for result in results:
        lines += ["", f"{result.release}:", "", *(f"    {line}" for line in result.agreement)]
    return "\n".join(lines)


def _cell(counts: Counter[str] | None) -> str:
    if not counts:
        return "not run"
    return ", ".join(f"{counts[state]} {state}" for state in ("passed", "failed", "skipped") if counts[state])


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _told(kernel: str) -> Result:
    """Run one kernel, and say at once what came out: the others take their time."""
    result = run_kernel(kernel)
    total = ", ".join(f"{result.total[state]} {state}" for state in ("passed", "failed", "skipped"))
    sys.stderr.write(f"{result.release}: {total}, in {result.seconds / 60:.1f} minutes\n")
    return result


def main(kernels: list[str]) -> int:
    """Two kernels at a time; the output of those that fail, the table, the sum."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        results = list(pool.map(_told, kernels))
    for result in results:
        if result.code or result.total["failed"]:
            sys.stdout.write(f"== {result.release}\n{result.output[-20000:]}\n")
    total = sum((result.total for result in results), Counter[str]())
    sys.stdout.write(table(results) + "\n")
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    sys.stdout.write(f"{total['passed']} passed, {total['failed']} failed{skipped}\n")
    return int(total["failed"] > 0 or any(result.code for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
