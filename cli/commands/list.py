"""``aisp-trace list``: the workloads there are, what each needs and what it proves."""

from __future__ import annotations

from ...capture.host import usable_gpus
from ...report.terminal.console import print_json, say_lines
from ...workloads.catalog import CATALOG
from ..app import examples, new_app
from ..options import Json

app = new_app()


@app.command(epilog=examples("list", "list --json"))
def run(as_json: Json = False) -> None:
    """Show the workloads, their variants and what each needs."""
    if as_json:
        from ...report.documents.workloads import document

        print_json(document(CATALOG, usable_gpus()))
    else:
        from ...report.terminal.workloads import workloads_text

        say_lines(workloads_text(CATALOG, usable_gpus()))
