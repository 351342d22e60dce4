"""``aisp-trace doctor``: the diagnosis as lines or JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from ...capture.doctor import diagnose
from .. import console


def run(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Say what is installed, what is missing, and the exact remedy.

    Tries rather than guesses: one range is really recorded. Exit code 0 if a recorder works, 3 if none does.
    """
    diagnosis = diagnose()
    if as_json:
        console.print_json(diagnosis.document())
    else:
        width = max(len(finding.name) for finding in diagnosis.findings)
        for finding in diagnosis.findings:
            console.say(f"{finding.status:<7}  {finding.name:<{width}}  {finding.found}")
            if finding.remedy:
                indent = " " * (7 + 2 + width + 2)
                console.say_wrapped(finding.remedy, f"{indent}-> ", f"{indent}   ")
    return 0 if diagnosis.recorder is not None else 3
