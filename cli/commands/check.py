"""``aisp-trace check``: the verdict on a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import print_json, say


def run(
    source: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="a run folder; default: the newest run", show_default=False)
    ] = None,
    expectations: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="folder of expectations_*.json; default: ./expectations, else the package's"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of the table")] = False,
) -> int:
    """Judge a run against the expectations written down for it.

    Every claim gets a verdict with its working: value, interval, bound, margin, sample count, and where the bound comes
    from. Nothing is ever written. Leaves 0 if all judged claims hold, 1 if one is missed, 3 if one, or all, could not be
    judged.
    """
    from ...expectations.verdict import counts, exit_code
    from ...traces.run import RUNS_DIR, load_run, newest_run
    from ..evidence import analyses_of_run, judge_run
    from ..verdicts import document, sentences, verdict_table

    found = newest_run(Path(RUNS_DIR)) if source is None else load_run(source)
    judged = judge_run(found, analyses_of_run(found), expectations)
    if as_json:
        print_json(document(judged))
        return exit_code(judged.verdicts)
    evidence, used = judged.evidence, judged.expectations
    say(f"run           {evidence.run_id} on {evidence.hardware_key}")
    say(f"expectations  {used.folder} ({_CHOSEN[used.chosen]})")
    if not judged.verdicts:
        say(f"\nNo claim is about {evidence.workload}, so nothing was judged.")
        return exit_code(judged.verdicts)
    say(f"\n{verdict_table(judged.verdicts, evidence.workload)}\n")
    for line in sentences(judged.verdicts):
        say(line)
    for note in judged.notes:
        say(f"note: {note}.")
    say(", ".join(f"{n} {status}" for status, n in counts(judged.verdicts).items() if n) + ".")
    return exit_code(judged.verdicts)


_CHOSEN = {"option": "--expectations", "project": "the current project's", "package": "those of aisp-trace"}
