"""``aisp-trace doctor``: the diagnosis as lines or JSON."""

from __future__ import annotations

from typing import Final

from ...capture.doctor import diagnose
from ...report.terminal.console import Painted, paint, print_json, say_wrapped
from ..app import examples, new_app
from ..options import Json

STYLES: Final = {"ok": "green", "missing": "yellow", "busy": "yellow"}

app = new_app()


@app.command(epilog=examples("doctor", "doctor --json"))
def run(as_json: Json = False) -> int:
    """Say what is missing on this machine, and the remedy.

    Tries rather than guesses: one range is really recorded. Exit code 0 if a recorder works, 3 if none does.
    """
    diagnosis = diagnose()
    if as_json:
        print_json(diagnosis.document())
    else:
        width = max(len(finding.name) for finding in diagnosis.findings)
        for finding in diagnosis.findings:
            style = STYLES.get(finding.status, "")
            paint([Painted(f"{finding.status:<7}", style), f"  {finding.name:<{width}}  {finding.found}"])
            if finding.remedy:
                indent = " " * (7 + 2 + width + 2)
                say_wrapped(finding.remedy, f"{indent}-> ", f"{indent}   ")
    return 0 if diagnosis.recorder is not None else 3
