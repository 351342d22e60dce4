"""A scrubbed copy of what a command was given, from which a page or an export is made as from the original.

What is made from the copy can hold nothing that the copy does not: no face has to know what is personal.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from ..analyze.operands import Operand
from ..analyze.ranks import partials
from ..analyze.ranks.gather import Copy, Failed, Found, run_says
from ..analyze.ranks.look import Look
from ..analyze.ranks.rank import host_in_name, rank_in_name
from ..analyze.sources import Asked, Source
from ..traces.content import file_name
from ..traces.errors import InputError, UsageError
from ..traces.open import side_file
from ..traces.scrub.personal import Policy
from ..traces.scrub.run import learn_trace, scrub_run, scrub_stages, scrub_trace


@contextmanager
def scrubbed(source: Source, policy: Policy) -> Iterator[Source]:
    """A copy of `source` in a temporary folder, which is gone afterwards; `policy` then knows what was replaced.

    Raises `InputError` for a trace that cannot be scrubbed.
    """
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as name:
        folder = Path(name)
        if source.run is not None:
            run = scrub_run(source.run, folder / file_name(source.run.manifest.run_id), policy=policy)
            yield Source(run, run.path)
        else:
            stem = file_name(policy.text(source.path.name.partition(".")[0])) or "trace"
            yield Source(None, scrub_trace(source.path, folder, policy, stem, keep_names=True))


@contextmanager
def scrubbed_pair(sides: Sequence[Operand], policy: Policy) -> Iterator[list[str]]:
    """Copies of two recordings by one `policy`, as words that name them; gone afterwards. Raises as `scrubbed`."""
    for side in sides:
        for file in _files(side):
            learn_trace(file, policy)
    copies: dict[Path, Source] = {}
    words = []
    with ExitStack() as stack:
        for side in sides:
            place = side.source.path.resolve()
            if place not in copies:  # two variants of one run stay that
                copies[place] = stack.enter_context(scrubbed(side.source, policy))
            words.append(_word(side, copies[place]))
        yield words


def _files(side: Operand) -> list[Path]:
    """The traces of one recording, or of all variants of its run."""
    run = side.source.run
    if run is None:
        return [side.source.path]
    return [run.path / one.trace for variant in run.manifest.variants for one in variant.recordings]


def _word(side: Operand, copy: Source) -> str:
    """What names `side` in the copy, whose variants may have other names."""
    if side.source.run is None or copy.run is None or side.variant is None:
        return str(copy.path)
    place = [variant.name for variant in side.source.run.manifest.variants].index(side.variant)
    return f"{copy.path}:{copy.run.manifest.variants[place].name}"


def as_in_copy(asked: Asked, policy: Policy) -> Asked:
    """`asked` of a copy by `policy`, whose names it replaced: who names a range knows it as the original has it."""

    def named(text: str | None) -> str | None:
        return None if text is None else policy.text(text)

    return replace(asked, window=named(asked.window), domain=named(asked.domain), below=named(asked.below))


@dataclass(frozen=True, slots=True)
class Copies:
    """Scrubbed `copies` of the traces of a job, a `folder` for their partials, and the traces that `failed`."""

    copies: Sequence[Copy]
    folder: Path
    failed: Sequence[Failed]


@contextmanager
def scrubbed_job(found: Found, policy: Policy) -> Iterator[Copies]:
    """Copies of all traces of `found` by one `policy`, so that a name is the same on every rank; gone afterwards.

    Partials of these very traces are passed over. Raises `UsageError` for others: nobody knows any more what their names were
    recorded beside.
    """
    clocks = {partials.clock_of(partials.key_of(trace, Look())) for trace in found.traces}
    for file in found.partials:
        if partials.head_of(file)["clock"] not in clocks:
            raise UsageError(
                f"--scrub takes traces, and {file} is a partial, whose names are as they were recorded; give the trace that it "
                "was made from"
            )
    for trace in found.traces:
        if host := host_in_name(trace.name):
            policy.learn_variable("hostname", host)
        with suppress(InputError):  # said below
            learn_trace(trace, policy)
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as name:
        folder = Path(name)
        copies, failed = [], []
        for number, trace in enumerate(found.traces):
            try:
                copies.append(_copy(trace.absolute(), folder / str(number), policy))
            except InputError as exc:
                own = _clean_name(trace.name, policy)
                failed.append(clean(Failed(own, str(exc).replace(str(trace.absolute()), own)), policy))
        yield Copies(copies, folder / "partials", failed)


def clean(failed: Failed, policy: Policy) -> Failed:
    """`failed` without what is personal in the path and the reason."""
    return Failed(policy.text(failed.file), policy.text(failed.why))


def _copy(trace: Path, folder: Path, policy: Policy) -> Copy:
    """A scrubbed copy of `trace` in the new `folder`, named by what of its path tells a rank or a host."""
    folder.mkdir()
    above = [policy.text(part) for part in trace.parts[-4:-1] if rank_in_name(part) is not None]
    own = _clean_name(trace.name, policy)
    kinds = side_file(trace)
    stem = "trace" if kinds else file_name(own.partition(".")[0]) or "trace"
    file = scrub_trace(trace, folder, policy, stem)
    if kinds:
        scrub_stages(kinds, folder / kinds.name, policy)
    return Copy(file, str(PurePath(*above, own)), run_says(trace))


def _clean_name(name: str, policy: Policy) -> str:
    host = host_in_name(name)
    return policy.text(name) if host is None else policy.host(host) + policy.text(name.removeprefix(host))
