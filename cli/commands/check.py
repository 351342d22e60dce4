"""``aisp-trace check``: the verdict on a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...traces.errors import UsageError
from ...traces.run import RUNS_DIR, Run, load_run, newest_run
from ..console import print_json, say, say_lines, say_wrapped
from ..outputs import Force, aside, expectation_files, inputs_of_run, refuse_mixture

if TYPE_CHECKING:
    from ..evidence import Judged


def run(
    source: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="a run folder; default: the newest run", show_default=False)
    ] = None,
    expectations: Annotated[
        Path | None,
        typer.Option(
            "--expectations",
            metavar="DIR",
            help="folder of expectations_*.json; default: ./expectations, else the package's",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of the table")] = False,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="also write the verdicts as JUnit XML; - is standard output"),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="also write them as Markdown")
    ] = None,
    force: Force = False,
    update: Annotated[
        bool, typer.Option("--update-expectations", help="accept the run's bounds instead, as `aisp-trace accept` does")
    ] = False,
    allow_loosen: Annotated[
        bool, typer.Option("--allow-loosen", help="with it: accept bounds that ask for less")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="with it: do not ask")] = False,
) -> int:
    """Judge a run against the expectations written down for it.

    Every claim gets a verdict with its working: value, interval, bound, margin, sample count, and where the bound comes
    from. Unless --junit, --markdown or --update-expectations ask for it, nothing is written, except that the Markdown is
    appended to $GITHUB_STEP_SUMMARY where that is set. Leaves 0 if all judged claims hold, 1 if one is
    missed, 3 if one, or all, could not be judged.
    """
    from ...expectations.judging.verdict import exit_code
    from ..evidence import analyses_of_run, judge_run
    from ..summaries import summaries
    from ..verdicts import document

    found = newest_run(Path(RUNS_DIR)) if source is None else load_run(source)
    if update and force:
        raise UsageError(
            "--force has no effect on --update-expectations, which writes nothing but expectations; leave it out"
        )
    if update:
        return _update(found, expectations, yes, allow_loosen, judging=as_json or bool(junit or markdown))
    if yes or allow_loosen:
        raise UsageError("--yes and --allow-loosen belong to --update-expectations; check alone writes no bounds")
    if force and not (junit or markdown):
        raise UsageError("--force is for a file that --junit or --markdown names, and neither was given; leave it out")
    inputs = inputs_of_run(found, *expectation_files(expectations))
    files = summaries(junit, markdown, inputs, force=force)
    refuse_mixture(as_json, *files.asked)
    judged = judge_run(found, analyses_of_run(found), expectations)
    files.write(judged)
    if as_json:
        print_json(document(judged))
    else:
        with aside(*files.asked):
            _show(judged)
    return exit_code(judged.verdicts)


def _show(judged: Judged) -> None:
    from ...expectations.judging.verdict import counts
    from ..verdicts import sentences, verdict_table

    evidence, used = judged.evidence, judged.expectations
    say(f"run           {evidence.run_id} on {evidence.hardware_key}")
    say(f"expectations  {used.folder} ({_CHOSEN[used.chosen]})")
    if not judged.verdicts:
        say()
        say(f"No claim is about {evidence.workload}, so nothing was judged.")
        for note in judged.notes:
            say_wrapped(f"note: {note}.")
        return
    say()
    say_lines(verdict_table(judged.verdicts, evidence.workload))
    say()
    for line in sentences(judged.verdicts):
        say_wrapped(line)
    for note in judged.notes:
        say_wrapped(f"note: {note}.")
    say(", ".join(f"{n} {status}" for status, n in counts(judged.verdicts).items() if n) + ".")


def _update(found: Run, expectations: Path | None, yes: bool, allow_loosen: bool, *, judging: bool) -> int:
    from ..accepting import Answers, accept

    if judging:
        raise UsageError("--update-expectations judges nothing, so it has no --json, --junit or --markdown")
    return accept([found], expectations, Answers(yes, allow_loosen))


_CHOSEN = {"option": "--expectations", "project": "the current project's", "package": "those of aisp-trace"}
