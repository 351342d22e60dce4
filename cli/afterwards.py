"""What a capture of several variants leads to: bounds from it, or a verdict on it. Said at its start and at its end.

`accept` takes bounds only from rounds that carry one and from sources that somebody can find again. What it would refuse is said
before a capture of ten minutes, not after it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..analyze.words import speedup
from ..capture import host
from ..capture.plan import Plan
from ..capture.rounds import source_folder
from ..expectations.deciding import (
    DECIDING,
    MIN_ROUNDS,
    bounds_doubt,
    median_interval,
    own_bound,
    speedups_of,
    widest,
    wrong_allowed,
)
from ..expectations.judging.commands import command_times, stated
from ..traces.errors import AispTraceError, InputError
from ..traces.hardware_key import vague_key
from ..traces.pair_timing import PROCESSES, STEPS
from ..traces.run import MANIFEST, RUNS_DIR, Manifest, Run, earlier_run, load_run
from .goals import is_claimed
from .options import run_of

if TYPE_CHECKING:  # a GPU host need not have what it needs
    from ..expectations.accepting.accept import Proposal

OWN: Final = ("pair", "file")
"""Sources whose bounds are the user's to write; those of our workloads come with the package."""


def forewarned(plan: Plan) -> str:
    """Why `accept` would refuse the run that `plan` makes, or that its bounds would be other machines' too, with the remedy.

    Empty where neither is so, or bounds exist.
    """
    machine = host.hardware(plan.device)
    if not _compares(plan.source, len(plan.variants)) or _is_claimed(plan.workload, plan.size, machine.key):
        return ""
    folder, root = source_folder(plan)
    git = host.git_state(folder, root=root)
    if git.get("commit") is None:
        return (
            f"`accept` will take no bounds from this run: {folder} is not in a git repository with a commit; commit the "
            f"programs first, or decide bounds yourself afterwards: `aisp-trace expectations new {plan.workload}`"
        )
    if git.get("dirty") is None:
        return (
            "`accept` will take no bounds from this run: nobody says whether its files are those of the commit; if they are, set "
            "AISP_GIT_DIRTY=0"
        )
    if git["dirty"]:
        names = ", ".join(git.get("changed") or ()) or "not listed"
        return f"`accept` will take no bounds from this run: tracked files differ from the commit ({names}); commit them first"
    return vague_key(machine.key, machine.cpu)


def is_empty(run: Run) -> bool:
    """Whether `run` is of a single program whose recording holds nothing to analyse."""
    recordings = [made for variant in run.manifest.variants for made in variant.recordings]
    return run.manifest.source == "command" and bool(recordings) and all(made.empty for made in recordings)


def following(run: Run, shown: str) -> list[str]:
    """Lines on what comes next, `shown` being the run's folder: a command; then why the times differ, and what else there is."""
    made = run.manifest
    folder = shlex.quote(shown)
    recorded = any(v.recording is not None for v in made.variants)
    if not _compares(made.source, len(made.variants)):
        lines = [f"next: aisp-trace {'analyze' if recorded else 'check'} {folder}"]
        if recorded and (before := earlier_run(run)) is not None:
            lines.append(f"or against the run before, {before.path.name}: aisp-trace compare {folder}")
        return lines
    if _is_claimed(made.workload, made.size, made.hardware.key):
        lines = [f"next: aisp-trace check {folder}"]
    else:
        lines = _to_bounds(run, folder)
    return [*lines, *([f"or what made the difference: aisp-trace compare {folder}"] if recorded else [])]


def _to_bounds(run: Run, folder: str) -> list[str]:
    """`accept` where it would take bounds from `run`, called `folder` on a command line; else why not, and what to do instead."""
    made = run.manifest
    # `expectations new` knows the runs that lie where they do by default
    known = run.path.resolve().parent == Path(RUNS_DIR).resolve()
    new = f"aisp-trace expectations new {shlex.quote(made.workload)}" if known else "docs/change.md says how"
    by_hand = f"or decide a bound yourself: {new}"
    if made.git.get("commit") is None:
        return [f"next: {new}" if known else f"next: decide a bound yourself; {new}"]
    if made.git.get("dirty") is not False:
        changed = ", ".join(made.git.get("changed") or ()) or "the programs"
        return [f"next: commit {changed} and capture again, for bounds that `accept` takes", by_hand]
    rounds = len({one.index for one in made.rounds} | {one.index for one in made.commands})
    if rounds < MIN_ROUNDS or wrong_allowed(made.looks, rounds) is None:
        enough = "with a longer --budget" if len(made.looks) > 1 else f"with --rounds {MIN_ROUNDS}, or --decide"
        few = "1 round carries" if rounds == 1 else f"{rounds} rounds carry"
        return [f"next: capture again {enough}: {few} no bound", by_hand]
    refused, wide = _doubts(run)
    ratio = _of_the_ratio(run) if refused else None
    alone = f"bound the speedup alone: aisp-trace accept {folder} --only-ratio"
    if ratio is not None and not ratio.wide:
        return [f"`accept` would not take milliseconds from this run as limits: {refused}", f"next: {alone}", by_hand]
    by_hand += _met_again(made)
    more = next((look for look in DECIDING if look > rounds), None)
    again = f"next: time it again on a quieter machine{'' if more is None else f', with --rounds {more}'}"
    if ratio is not None:
        return [
            f"`accept` would not take milliseconds from this run as limits: {refused}",
            again,
            f"or {alone} (it would be wide: {ratio.wide[0].partition(' (')[0]})",
            by_hand,
        ]
    if refused:
        return [f"`accept` would take no bound from this run: {refused}", again, by_hand]
    if wide:
        anyway = f"or take it anyway: aisp-trace accept {folder}"
        return [f"`accept` would warn of a wide bound, and with --yes refuse it: {wide}", again, anyway, by_hand]
    return [f"next: aisp-trace accept {folder}"]


def _met_again(made: Manifest) -> str:
    """The most that a bound of one's own may ask for, in brackets; empty with several variants, or where it guards nothing."""
    first, *others = (v.name for v in made.variants)
    times = _times(made)
    ratios = speedups_of(times.get(first, {}), times.get(others[0], {}), made.looks) if len(others) == 1 else None
    ends = None if ratios is None else widest(ratios, made.looks)
    asked = 0.0 if ends is None else own_bound(*ends)
    return f" (an equally noisy run would meet {asked:.2f})" if asked > 1 else ""


def _doubts(run: Run) -> tuple[str, str]:
    """What `accept` would say against the rounds of `run`, by asking it: (why it takes no bounds, which of them is wide).

    Where only what records is installed, the rounds are asked as `--decide` asks them.
    """
    try:
        found = _proposed(run)
    except InputError as exc:
        return str(exc), ""
    if found is None:
        return _doubt_of_rounds(run.manifest), ""
    if found.refusals:
        return found.refusals[0].text, ""
    return ("", next(iter(found.wide), "")) if found.changes else ("; ".join(found.notes), "")


def _of_the_ratio(run: Run) -> Proposal | None:
    """What `accept --only-ratio` would write; null where it would refuse, or where only what records is installed."""
    try:
        found = _proposed(run, only_ratio=True)
    except InputError:
        return None
    return found if found is not None and found.changes and not found.refusals else None


def _proposed(run: Run, *, only_ratio: bool = False) -> Proposal | None:
    """What `accept` would propose from the rounds of `run`; null where only what records is installed. Raises as it does."""
    if find_spec("polars") is None or find_spec("pydantic") is None:
        return None
    from ..expectations.accepting.run import of_rounds

    return of_rounds(run, only_ratio)


def _doubt_of_rounds(made: Manifest) -> str:
    times = _times(made)
    first, *others = (v.name for v in made.variants)
    for name in others:
        both = sorted(times.get(first, {}).keys() & times.get(name, {}).keys())
        before, after = ([times[who][i] for i in both] for who in (first, name))
        if doubt := bounds_doubt(before, after, looks=made.looks):
            return doubt
    return ""


def measured(run: Run) -> list[str]:
    """What a capture of the user's own variants was made for: `speedups`, and of a pair whether the work was the same; nothing
    for a workload of ours, or one variant."""
    made = run.manifest
    said = speedups(run) if _compares(made.source, len(made.variants)) else []
    return [*said, f"work: {stated(made).sentence}"] if said and made.source == "pair" else said


def speedups(run: Run) -> list[str]:
    """A sentence on the speedup of each variant over the first, by the untraced rounds: no verdict."""
    made = run.manifest
    by_variant = _times(made)
    first, *others = (v.name for v in made.variants)
    base = by_variant.get(first, {})
    said = []
    for name in others:
        ratios = speedups_of(base, by_variant.get(name, {}), made.looks)
        if ratios is not None:
            found = median_interval(ratios.mean, made.looks)
            of = {PROCESSES: ", of whole processes with start-up", STEPS: ", of one step"}.get(made.timed or "", "")
            rounds = "1 round" if found.n == 1 else f"the median ratio of {found.n} rounds"
            said.append(
                f"untraced: {name} {speedup(found.value, found.low, found.high, found.coverage, f'{rounds}{of}')}"
            )
    return said


def unrecorded(words: Sequence[str]) -> list[str]:
    """The `speedups` of those of `words` (none: the newest run) that are runs, or variants of one, of which nothing was recorded:
    what can be said of them where nothing can be compared."""
    folders = dict.fromkeys(Path(word if Path(word).exists() else word.rpartition(":")[0]) for word in words)
    try:
        runs = [load_run(folder) for folder in folders if (folder / MANIFEST).is_file()] if words else [run_of(None)]
    except AispTraceError:  # the command has said so
        return []
    timed = [run for run in runs if not any(v.recording for v in run.manifest.variants)]
    return [line if len(timed) == 1 else f"{run.path.name}: {line}" for run in timed for line in speedups(run)]


def _compares(source: str, variants: int) -> bool:
    return source in OWN and variants > 1


def _is_claimed(workload: str, size: str | None, key: str) -> bool:
    try:
        return is_claimed(workload, size, key)
    except InputError:
        return True  # `check` says what is wrong with the file


def _times(made: Manifest) -> dict[str, dict[int, Sequence[int]]]:
    """Variant -> round -> its times in nanoseconds."""
    found: dict[str, dict[int, Sequence[int]]] = {}
    of_rounds = ((one.index, v.name, v.iterations_ns) for one in made.rounds for v in one.result.variants)
    for index, name, times in (*of_rounds, *command_times(made)):
        found.setdefault(name, {})[index] = times
    return found
