"""From the words of ``aisp-trace compare`` to its comparisons: what is held against what, read, matched and measured.

RUN                       a ladder: each rung against the one before it, and the last against the first; then every
                          alternative against the variant it is one change to
RUN:a RUN:b               two variants, of one run or of two
RUN_A RUN_B               two occasions of one workload, each variant against its namesake
TRACE_A TRACE_B           two recordings
TRACE --window A --against B   two ranges of one recording
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import polars as pl

from ...analyze.analyze import analyze
from ...analyze.attribution.selection import chosen_stages
from ...analyze.attribution.stages import MEASURED, find_stages
from ...analyze.attribution.window import STEADY, parse_window, resolve
from ...analyze.comparison.amounts import Amounts, amounts
from ...analyze.comparison.changes import Change, KernelTotals, copy_changes, kernel_changes, kernel_totals
from ...analyze.comparison.host_times import HostSide, HostTimes, host_side, host_times, iterations_of
from ...analyze.comparison.mechanisms import Split, split
from ...analyze.comparison.sides import account
from ...analyze.comparison.waterfall import Waterfall, layout, waterfall
from ...analyze.operands import Operand, newest, operand, recorded, single
from ...analyze.result import Analysis
from ...analyze.sources import USUAL, Asked, Quick, Source
from ...traces.content import one_line
from ...traces.errors import EmptyTraceError, InputError, UsageError
from ...traces.model import Trace
from ...traces.run import Run, earlier_run
from ...traces.shown import Shown
from ..claims.load import load_expectations
from ..judging.between import Member, Untraced, different_work, untraced, work_doubt
from ..judging.evidence import COMMAND, WHOLE, Evidence, gather
from ..judging.predictions import Measured, Outcome, outcome, predictions_of
from ..model import ExpectationFile
from .notes import host_notes, notes_of
from .sides import Side


@dataclass(frozen=True, slots=True)
class Choices:
    """How the sides are looked at; `against` is the second side's window, null: that of the first. `exact` keeps digits in
    the names of stages; `asked` then has to leave them, too. `host`: compare host times, whatever the devices did.
    """

    asked: Asked = USUAL
    against: str | None = None
    exact: bool = False
    quick: Quick = field(default_factory=lambda: Quick(cache=True))
    host: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides held against each other. `role` is pair, step or total (of a ladder), alternative, or occasion (two runs).

    `objections` are reasons why the two must not be compared at all, `notes` what a reader should know.
    """

    def __repr__(self) -> str:
        ratio = self.waterfall.ratio
        traced = "" if ratio is None else f", {ratio:.2f}x traced"
        return f"<Comparison: {one_line(f'{self.base.name} -> {self.opt.name}'[:80])}{traced}>"

    role: str
    base: Side
    opt: Side
    waterfall: Waterfall
    why: Split
    kernels: tuple[Change, ...]
    copies: tuple[Change, ...]
    untraced: Untraced | None
    objections: tuple[str, ...]
    notes: tuple[str, ...]
    predictions: tuple[Outcome, ...] = ()

    @property
    def names_apart(self) -> tuple[str, str]:
        """The names of both sides; ``base`` and ``opt`` where they share one, as two windows of a trace do."""
        names = self.base.name, self.opt.name
        return names if names[0] != names[1] else ("base", "opt")


@dataclass(frozen=True, slots=True)
class HostComparison:
    """Two sides held against each other by host time alone, since one or both have no device operations; see `Comparison`."""

    def __repr__(self) -> str:
        return f"<HostComparison: {one_line(f'{self.base.name} -> {self.opt.name}'[:80])}>"

    role: str
    base: Side
    opt: Side
    times: HostTimes
    untraced: Untraced | None
    objections: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compared(Shown):
    """Everything one call compares; positions of `sides` in the order in which they were given. Where some side has no device
    operations, all pairs are in `host`, and there are no `comparisons`."""

    def __repr__(self) -> str:
        pairs = ", ".join(
            f"{c.base.name} -> {c.opt.name} {'' if c.waterfall.ratio is None else f'{c.waterfall.ratio:.2f}x'}".strip()
            for c in self.comparisons
        )
        return f"<Compared: {one_line(pairs[:200])}>"

    mode: str
    sides: tuple[Side, ...]
    comparisons: tuple[Comparison, ...]
    host: tuple[HostComparison, ...] = ()

    @property
    def exit_code(self) -> int:
        """3 where any two sides must not be compared, else 0."""
        refused = [c.objections for c in self.comparisons] + [c.objections for c in self.host]
        return 3 if any(refused) else 0


UNTRUSTED: Final = "unavailable"


def compare(words: Sequence[str], choices: Choices) -> Compared:
    """Read and compare what `words` (none, one or two) name; none: the newest run.

    Where the steady iterations would be the windows (`Asked.steady`) and are not the same of all sides, whole recordings are
    compared; where some side has no device operations, all are compared by host time. Raises `UsageError` where `words` name
    nothing that can be held against something else, `InputError` for what cannot be read.
    """
    try:
        found = _compared(words, choices)
    except _HostOnly:
        return _compared(words, replace(choices, host=True))
    if not _alike(found.sides):
        found = _compared(words, replace(choices, asked=replace(choices.asked, steady=False)))
    if not any(side.run for side in found.sides):
        return found
    files = load_expectations(None, Path.cwd()).files
    return replace(found, comparisons=tuple(replace(c, predictions=_came_of(c, files)) for c in found.comparisons))


def _came_of(c: Comparison, files: Sequence[ExpectationFile]) -> tuple[Outcome, ...]:
    """What came of the predictions in `files`, of two variants whose iterations were timed."""
    base, opt = c.base.run, c.opt.run
    if c.untraced is None or c.untraced.timed == WHOLE or base is None or opt is None:
        return ()
    m, variant_ns = opt.manifest, opt.untraced_ns(c.opt.name)
    if variant_ns is None or (m.workload, m.size) != (base.manifest.workload, base.manifest.size):
        return ()
    seen = Measured(c.untraced.ratio.value, variant_ns, c.base.analysis, c.opt.analysis)
    claims = predictions_of(files, m.hardware.key, m.workload, m.size)
    names = (c.base.name, c.opt.name)
    return tuple(outcome(claim, seen) for claim in claims if (claim.baseline, claim.variant) == names)


class _HostOnly(Exception):
    """Some side has no device operations."""


def _alike(sides: Sequence[Side]) -> bool:
    """Whether windows that nobody chose are of the same iterations: all whole recordings, or iterations of one name. Those that
    kernels tell have none: what begins an iteration on one side may lie inside of one on the other."""
    chosen = [side.analysis for side in sides if side.window is None]
    steady = [one.steady for one in chosen if one.choices.window == STEADY]
    names = {(one.path, one.found_by) for one in steady if one is not None}
    return not names or (len(steady) == len(chosen) and len(names) == 1 and "kernels" not in {by for _, by in names})


def _compared(words: Sequence[str], choices: Choices) -> Compared:
    operands = [operand(word) for word in words] or [newest()]
    first, second = operands[0], operands[-1]
    window, against = choices.asked.chosen_window, choices.against
    if len(operands) == 1 and against is None:
        if not first.several:
            raise UsageError(
                f"{first.text} alone has nothing to be compared with; name a second one, or --against RANGE"
            )
        names = recorded(first.source)
        before = _before(first) if len(names) == 1 else None
        if before is None and len(names) < 2:
            if not names and first.source.run is not None and len(first.source.run.manifest.variants) > 1:
                raise UsageError(
                    f"run {first.text} was timed and not recorded, so nothing tells why one variant is faster; `aisp-trace "
                    "check` and `report` show how much, and `capture --profile minimal` records it, too"
                )
            found = f"only the recording of {names[0]}" if names else "no recording"
            raise UsageError(
                f"run {first.text} holds {found}; name a second run or trace to compare it with{_once_more(first)}"
            )
        if before is None:
            sides = _sides(first, names, window, choices)
            return assembled(*_own_pairs(names, first.source.run), sides, choices)
        operands, first = [before, first], before
    if first.several and second.several and len(operands) == 2 and not _one_script(first, second):
        return _occasions(first, second, choices)
    left, right = single(first), single(second)
    sides = [
        *_sides(left, [left.variant], window, choices),
        *_sides(right, [right.variant], against or window, choices),
    ]
    return assembled("pair", [("pair", 0, 1)], sides, choices)


def _before(given: Operand) -> Operand | None:
    """The run before that of `given`, of the same script; null where there is none."""
    run = None if given.source.run is None else earlier_run(given.source.run)
    return None if run is None else Operand(Source(run, run.path), None, str(run.path))


def _one_script(first: Operand, second: Operand) -> bool:
    """Whether both are runs of a single command, whose one recording has no name of its own."""
    runs = [given.source.run for given in (first, second) if len(recorded(given.source)) == 1]
    return len([run for run in runs if run is not None and run.manifest.source == COMMAND]) == 2


def _once_more(given: Operand) -> str:
    """The end of the sentence that refuses the only run of a script."""
    script = None if given.source.run is None else given.source.run.manifest.script
    if script is None:
        return ""
    return f", or capture {script} again after your change: `aisp-trace compare` takes the last two runs of a script"


def compare_analysed(
    analyses: Mapping[str, Analysis],
    traces: Mapping[str, Trace],
    run: Run | None,
    predictions: Sequence[Outcome] = (),
    asked: Asked = USUAL,
) -> Compared | None:
    """The comparisons that `compare` makes of one `run`'s variants, of which `analyses` and `traces` are at hand, in order.

    `asked` is what the analyses were made with. `predictions` are the outcomes of the run's own; each is shown where its two
    variants are compared, unless a window was chosen. Without its trace a side has no kernels to list. Null where fewer than two
    are given, or one has no device operations.
    """
    if len(analyses) < 2 or any(one.windows.is_empty() for one in analyses.values()):
        return None
    exact = not all(one.choices.fold for one in analyses.values())
    window, choices = asked.chosen_window, Choices(asked, exact=exact)
    sides = []
    for name, analysis in analyses.items():
        trace = traces.get(name)
        counted = {} if trace is None else kernel_totals(trace, analysis.windows)
        root = "" if trace is None else root_path(trace, window, choices)
        did = amounts(analysis, root=root, exact=exact)
        sides.append(Side(name, window, root, analysis, counted, did, run, None))
    found = assembled(*_own_pairs(list(analyses), run), sides, choices)
    shown = predictions if window is None else ()
    told = (
        replace(c, predictions=tuple(p for p in shown if (p.baseline, p.variant) == (c.base.name, c.opt.name)))
        for c in found.comparisons
    )
    return replace(found, comparisons=tuple(told))


def _own_pairs(names: Sequence[str], run: Run | None) -> tuple[str, list[tuple[str, int, int]]]:
    """What to compare of the variants `names` of one run: the rungs' ladder, and every alternative with what it changes."""
    alternatives = {} if run is None else run.manifest.alternatives
    rungs = [i for i, name in enumerate(names) if name not in alternatives] or list(range(len(names)))
    pairs = [("step", i, j) for i, j in pairwise(rungs)] if len(rungs) > 2 else []
    pairs += [("total", rungs[0], rungs[-1])] if len(rungs) > 1 else []
    for i, name in enumerate(names):
        of = alternatives.get(name)
        if i not in rungs:
            pairs.append(("alternative", names.index(of) if of in names else rungs[-1], i))
    return "pair" if len(pairs) == 1 else "ladder", pairs


def _occasions(first: Operand, second: Operand, choices: Choices) -> Compared:
    """Two runs: each variant that both recorded against its namesake."""
    theirs = recorded(second.source)
    names = [name for name in recorded(first.source) if name in theirs]
    if not names:
        one, other = (", ".join(recorded(o.source)) or "nothing" for o in (first, second))
        raise UsageError(
            f"{first.text} recorded {one} and {second.text} {other}: no variant is in both; name one of each, RUN:VARIANT"
        )
    window, against = choices.asked.chosen_window, choices.against
    sides = [*_sides(first, names, window, choices), *_sides(second, names, against or window, choices)]
    pairs = [("occasion", i, i + len(names)) for i in range(len(names))]
    return assembled("occasions", pairs, sides, choices)


def _sides(given: Operand, names: Sequence[str | None], window: str | None, choices: Choices) -> list[Side]:
    """The recordings `names` of one operand, one by one; the traces themselves are let go."""
    read: list[tuple[str, Analysis, str, KernelTotals, Amounts, HostSide | None]] = []
    for name in names:
        for opened in (given.source if name is None else given.source.only(name)).open(
            replace(choices.asked, window=window), choices.quick
        ):
            analysis = opened.analysis
            if analysis.windows.is_empty() and not choices.host:
                raise _HostOnly
            root = root_path(opened.trace, window, choices)
            did = amounts(analysis, root=root, exact=choices.exact)
            counted = kernel_totals(opened.trace, analysis.windows), did
            host = _host_side(opened.trace, analysis, root, window, choices) if choices.host else None
            read.append((opened.side, analysis, root, *counted, host))
        if name is not None and not any(side == name for side, *_ in read):
            raise InputError(f"{given.text}: variant {name} was not recorded; capture it with --profile minimal")
    run = given.source.run
    return [
        Side(name, window, root, analysis, kernels, did, run, None, host)
        for name, analysis, root, kernels, did, host in read
    ]


def _host_side(trace: Trace, analysis: Analysis, root: str, window: str | None, choices: Choices) -> HostSide:
    """The host times of one recording, of its whole window and of its iterations.

    Raises `EmptyTraceError` where it has neither device operations nor stages.
    """
    if analysis.stages.is_empty():
        where = _where(analysis.meta.file, window)
        if analysis.windows.is_empty():
            why = f"no device operation was recorded in {where}, and"
        else:
            why = f"the other recording has no device operations to compare with those of {where}, and"
        raise EmptyTraceError(
            f"{why} it has no stages, so there is no time to compare; mark stages with NVTX ranges (aisp_trace.stage), or "
            "record the device with `-t cuda,nvtx`"
        )
    asked = choices.asked

    def stages_of(instants: tuple[int, int] | None) -> pl.DataFrame:
        return analyze(
            trace,
            window=instants,
            attribution=asked.attribution,
            domain=asked.domain,
            selection=asked.selection,
            fold=asked.fold,
            details=False,
        ).stages

    marked = iterations_of(analysis)
    return host_side(
        marked,
        stages_of(None) if analysis.choices.window == STEADY else analysis.stages,
        analysis.stages.clear() if marked is None else stages_of(marked.window),
        root=root,
        exact=choices.exact,
        has_device=not analysis.windows.is_empty(),
    )


def _with_members(sides: Sequence[Side]) -> list[Side]:
    """`sides` with what their runs say beside the traces, gathered once a run.

    A window of the user's own is not a unit of the run's work, so its bytes are not compared with what the variant promised; nor
    are those of a recording without device operations, which has none.
    """
    evidence: dict[Path, Evidence] = {}
    for side in sides:
        if side.run is not None and (place := side.run.path.resolve()) not in evidence:
            here = [s for s in sides if s.run is not None and s.run.path.resolve() == place and s.window is None]
            evidence[place] = gather(side.run, {s.name: s.analysis for s in here if not s.analysis.windows.is_empty()})
    return [s if s.run is None else replace(s, member=Member(evidence[s.run.path.resolve()], s.name)) for s in sides]


def root_path(trace: Trace, window: str | None, choices: Choices) -> str:
    """The path that stages of `window` are relative to; ``""`` for instants, `measured`, `steady` and whole traces."""
    spec = None if window is None else parse_window(window)
    if not isinstance(spec, str) or spec in (MEASURED, STEADY):
        return ""
    found = find_stages(trace, domain=choices.asked.domain, end_ns=0)
    roots = resolve(spec, found).roots
    chosen = chosen_stages(found, trace, choices.asked.selection, fold=choices.asked.fold)
    position = None if roots is None else chosen.position_of_range.get(int(found.range_id[roots[0]]))
    return "" if position is None else chosen.paths[chosen.path_id[position]]


def assembled(mode: str, pairs: Sequence[tuple[str, int, int]], sides: Sequence[Side], choices: Choices) -> Compared:
    """Every pair of `sides`, as (role, position, position). All pairs of a ladder share one layout, so that its steps add up."""
    sides = _with_members(sides)
    if all(side.host is not None for side in sides):
        return Compared(mode, tuple(sides), (), tuple(_by_host(role, sides[i], sides[j]) for role, i, j in pairs))
    accounts = [account(s.analysis, s.name, root=s.root, exact=choices.exact) for s in sides]
    shared = layout(accounts) if mode == "ladder" else None
    made = []
    for role, i, j in pairs:
        fall = waterfall(shared, i, j) if shared else waterfall(layout([accounts[i], accounts[j]]), 0, 1)
        base, opt = sides[i].member, sides[j].member
        timed = None
        objections: tuple[str, ...] = ()
        if base is not None and opt is not None:
            objections = tuple(f"different work: {reason}" for reason in different_work(base, opt))
            if sides[i].window is None and sides[j].window is None:
                timed = untraced(base, opt)
        made.append(
            Comparison(
                role=role,
                base=sides[i],
                opt=sides[j],
                waterfall=fall,
                why=split(fall, sides[i].amounts, sides[j].amounts),
                kernels=tuple(kernel_changes(sides[i].kernels, sides[j].kernels, fall.weights)),
                copies=tuple(copy_changes(sides[i].analysis, sides[j].analysis, fall.weights)),
                untraced=timed,
                objections=(*objections, *_disbelieved(sides[i]), *_disbelieved(sides[j])),
                notes=notes_of(fall, sides[i], sides[j], timed, _doubt(sides[i], sides[j])),
            )
        )
    return Compared(mode, tuple(sides), tuple(made))


def _by_host(role: str, base: Side, opt: Side) -> HostComparison:
    assert base.host is not None and opt.host is not None
    times = host_times(base.host, opt.host)
    objections: list[str] = []
    timed = None
    if base.member is not None and opt.member is not None:
        if base.window is None and opt.window is None:
            timed = untraced(base.member, opt.member)
        objections = [f"different work: {reason}" for reason in different_work(base.member, opt.member)]
    objections += [*_failed(base), *_failed(opt)]
    return HostComparison(role, base, opt, times, timed, tuple(objections), host_notes(times, _doubt(base, opt)))


def _doubt(base: Side, opt: Side) -> str:
    """Why nobody knows that both did the same work; a window of the user's own is not a unit of any run's work."""
    chosen = base.window is not None or opt.window is not None
    return work_doubt(None, None) if chosen else work_doubt(base.member, opt.member)


def _disbelieved(side: Side) -> list[str]:
    """Why this recording is not evidence: its process failed, or it has no ledger."""
    rows = side.analysis.trust.rows()
    return _failed(side) + [
        f"the ledger of {side.name} cannot be trusted: {r}"
        for m, level, r in rows
        if (m, level) == ("ledger", UNTRUSTED)
    ]


def _failed(side: Side) -> list[str]:
    """That the recorded process failed, if it did."""
    recording = None if side.run is None else side.run.variant(side.name).recording
    if recording is None or recording.exit_code == 0:
        return []
    return [f"the recording of {side.name} ended with exit code {recording.exit_code} and is not believed"]


def _where(side: str, window: str | None) -> str:
    return side if window is None else f"window {window} of {side}"
