"""`fibtrace doctor`: what this kernel lets us do."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> int:
    """Say what this kernel lets us do, what is missing, and the remedy.

    The last line names the backend that is chosen. Exit code 0 if tracing is possible, 3 if a permission is
    missing, 4 if a library is or this kernel cannot.
    """
    from tracer.kernel import doctor as kernel_doctor

    checks = kernel_doctor.checks()
    text = (
        kernel_doctor.as_json(checks)
        if as_json
        else kernel_doctor.as_table(checks, color=sys.stdout.isatty())
    )
    sys.stdout.write(text)
    return kernel_doctor.verdict(checks)
