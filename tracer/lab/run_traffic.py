"""Run the traffic of a lab that is up: `python -m tracer.lab.run_traffic NAME`, to be traced."""

# ruff: noqa: T201 - a program of its own, and what it prints goes to stderr

from __future__ import annotations

import sys

from tracer.errors import Exit, TracerError
from tracer.lab.engine import attach


def main(arguments: list[str]) -> int:
    """Run every step, say what each did on stderr, and return 0 if all ended as the lab says."""
    if len(arguments) != 1:
        print("usage: python -m tracer.lab.run_traffic NAME", file=sys.stderr)
        return Exit.USAGE
    failed = 0
    try:
        for result in attach(arguments[0]).traffic():
            last = result.output.strip().rpartition("\n")[2]
            mark = "" if result.ok else f"   FAILED: exit code {result.code}"
            print(f"{result.step.describe()}: {last}{mark}", file=sys.stderr)
            failed += not result.ok
    except TracerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    return Exit.FAILED if failed else Exit.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
