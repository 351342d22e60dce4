"""``aisp-trace ranks``: a job of many ranks, its stragglers and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ...analyze.ranks.look import Look
from ...report.terminal.console import print_json, remark, warn
from ...report.terminal.live import live_line, watched
from ...traces.errors import UsageError
from ..app import examples, new_app
from ..options import Depth, Domain, Force, Iterations, Json, Scrub, ShowPersonal, Skip, Stages, refuse_mixture
from ..pages import write_page

if TYPE_CHECKING:  # imported when a page is written
    from ...analyze.ranks.gather import Copy, Failed
    from ...traces.output import Output

PARTIALS: Final = Path("aisp-ranks")

app = new_app()


@app.command(
    epilog=examples(
        "ranks traces/  # every rank's trace in a folder",
        "ranks /shared/job  # partials of `analyze --partial`",
        "ranks 'out/rank*.nsys-rep' -o job.html",
        "ranks traces/ --scrub -o job.html  # a page to send on",
        "ranks traces/ --scheduler tcp://head:8786",
    )
)
def run(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="DIR|GLOB|TRACE", help="traces, partials, folders of them, or patterns"),
    ],
    folder: Annotated[
        Path, typer.Option("--partial", metavar="DIR", help="where the partials of traces are kept")
    ] = PARTIALS,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="traces read at once; default: one for each CPU")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="read them on the Dask cluster of this scheduler"),
    ] = None,
    iterations: Iterations = None,
    skip: Skip = None,
    domain: Domain = None,
    stages: Stages = None,
    depth: Depth = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="write an HTML page about the job; - is standard output"),
    ] = None,
    force: Force = False,
    scrub: Scrub = False,
    show_personal: ShowPersonal = False,
    as_json: Json = False,
) -> int:
    """Explain a job of many ranks: who was late, by how much, and why.

    Each trace becomes a partial, a small file, which `analyze --partial` writes as well where the trace lies. The partials
    are put on one clock by the ends of their collectives and matched. For each iteration: which rank came last, by how much,
    in which stage and by what. For the job: exposed communication, split into waiting and transfer, and where the time of
    the ranks differs.

    A trace that fails is reported, the others are merged, and the exit code is 2. A second run reads only traces that have no
    partial yet.

    --scrub makes page, text and JSON from copies of the traces in which folders, users, hosts, addresses and what looks
    like a secret are replaced; their partials are not kept. --show-personal lists them.
    """
    from ...analyze.ranks.engine import executor
    from ...analyze.ranks.gather import find, make, read
    from ...analyze.ranks.job import job_of
    from ...traces.output import real

    if workers is not None and scheduler is not None:
        raise UsageError(
            "--workers is for processes of this machine; a Dask cluster has its own, so leave one of them out"
        )
    if (scrub or show_personal) and (scheduler is not None or folder != PARTIALS):
        raise UsageError(
            "--scrub copies the traces on this machine and keeps no partials; leave --scheduler and --partial out"
        )
    if len(sources) > 1:  # as a shell expands *
        from ...report.own import without_own

        kept, passed = without_own([Path(word) for word in sources], partials_too=False)
        sources = [str(path) for path in kept]
        if passed:
            remark(passed)
    found = find(sources)
    target = _target(output, found.traces + found.partials, force=force, as_json=as_json)
    files: list[Path] = []
    failed: list[Failed] = []
    given: Sequence[Path | Copy] = found.traces
    ready: Sequence[Path] = found.partials
    with ExitStack() as stack:
        if scrub or show_personal:
            from ...report.scrubbed import clean, scrubbed_job
            from ...report.terminal.personal import print_personal
            from ...traces.scrub.personal import Policy

            policy = Policy.of_this_machine()
            with watched(f"copying {len(found.traces):,} traces without personal data"):
                job_copies = stack.enter_context(scrubbed_job(found, policy))
            if show_personal:
                print_personal(policy)
                return 0
            given, ready, folder = job_copies.copies, (), job_copies.folder
        if given:
            look = Look(domain, iterations, skip, stages, depth)
            with live_line(f"{len(given):,} traces") as show:

                def tell(done: int, of: int) -> None:
                    if show is not None:
                        show(f"{done:,} of {of:,} traces read")

                fresh = not folder.exists()
                files, failed = make(given, folder, look, partial(executor, workers, scheduler), tell)
        ranks, unread = read({real(file): file for file in [*ready, *files]}.values())
        failed += unread
        if scrub:
            failed = [*job_copies.failed, *(clean(one, policy) for one in failed)]
    for one in failed:
        warn(one.why)
    if not ranks:
        return 2
    if given and fresh and not scrub:
        remark(f"what was read is kept in {folder}, so that a second look reads only new traces")
    job = job_of(ranks)
    if as_json:
        from ...report.documents.ranks import document

        print_json(document(job, failed))
    elif target is None or not target.to_stdout:
        from ...report.terminal.ranks import print_job

        print_job(job, failed)
    if target is not None:
        from ...report.ranks.page import render
        from ...traces.version import version

        page = render(job, failed, version=version(), scrubbed=scrub)
        write_page(target, page, quiet=as_json)
    return 2 if failed else 0


def _target(output: Path | None, inputs: tuple[Path, ...], *, force: bool, as_json: bool) -> Output | None:
    """The page to be written, which is none of the inputs; null without one."""
    if output is None:
        return None
    from ...report.page.page import PAGE
    from ...traces.output import Inputs, Output

    target = Output(output, PAGE, Inputs(inputs), force)
    refuse_mixture(as_json, target)
    target.check()
    return target
