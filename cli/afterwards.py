"""What a capture of several variants leads to: bounds from it, or a verdict on it. Said at its start and at its end.

`accept` takes bounds only from rounds that carry one and from sources that somebody can find again. What it would refuse is said
before a capture of ten minutes, not after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..analyze.words import percent
from ..capture import host
from ..capture.plan import Plan
from ..capture.rounds import source_folder
from ..expectations.deciding import MIN_ROUNDS, median_interval, ratio_sample, wrong_allowed
from ..expectations.judging.commands import command_times
from ..traces.errors import InputError
from ..traces.pair_timing import PROCESSES, STEPS
from ..traces.run import Manifest, Run
from .goals import is_claimed

OWN: tuple[str, ...] = ("pair", "file")
"""Sources whose bounds are the user's to write; those of our workloads come with the package."""


def forewarned(plan: Plan) -> str:
    """Why `accept` would refuse the run that `plan` makes, with the remedy; empty where it would not, or bounds exist."""
    if not _compares(plan.source, len(plan.variants)) or _is_claimed(
        plan.workload, plan.size, host.hardware(plan.device).key
    ):
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
    return ""


def is_empty(run: Run) -> bool:
    """Whether `run` is of a single program whose recording holds nothing to analyse."""
    recordings = [made for variant in run.manifest.variants for made in variant.recordings]
    return run.manifest.source == "command" and bool(recordings) and all(made.empty for made in recordings)


def next_step(run: Run) -> tuple[str, str]:
    """(the command that comes next, one that says why the times differ or ""), each to be followed by the run's folder."""
    made = run.manifest
    recorded = any(v.recording is not None for v in made.variants)
    if not _compares(made.source, len(made.variants)):
        return ("analyze" if recorded else "check"), ""
    if _is_claimed(made.workload, made.size, made.hardware.key):
        return "check", "compare" if recorded else ""
    if _carries_bounds(made):
        return "accept", "compare" if recorded else ""
    return ("compare" if recorded else "check"), ""


def measured(run: Run) -> list[str]:
    """A sentence on the speedup of each variant over the first: no verdict, but what the capture was made for."""
    made = run.manifest
    if not _compares(made.source, len(made.variants)):
        return []
    by_variant: dict[str, dict[int, Sequence[int]]] = {}
    of_rounds = ((one.index, v.name, v.iterations_ns) for one in made.rounds for v in one.result.variants)
    for index, name, times in (*of_rounds, *command_times(made)):
        by_variant.setdefault(name, {})[index] = times
    first, *others = (v.name for v in made.variants)
    base = by_variant.get(first, {})
    said = []
    for name in others:
        both = sorted(base.keys() & by_variant.get(name, {}).keys())
        if both:
            ratios = ratio_sample([base[i] for i in both], [by_variant[name][i] for i in both])
            of = {PROCESSES: ", of whole processes with start-up", STEPS: ", of one step"}.get(made.timed or "", "")
            found = median_interval(ratios.mean, made.looks)
            rounds = "1 round" if len(both) == 1 else f"the median ratio of {len(both)} rounds"
            end = (
                f" ({rounds}{of}: too few for an interval)"
                if found.low is None
                else f", between {found.low:.2f}x and {found.high:.2f}x ({percent(found.coverage or 0)}, {rounds}{of})"
            )
            said.append(f"untraced: {name} {found.value:.2f}x{end}")
    return said


def _compares(source: str, variants: int) -> bool:
    return source in OWN and variants > 1


def _is_claimed(workload: str, size: str | None, key: str) -> bool:
    try:
        return is_claimed(workload, size, key)
    except InputError:
        return True  # `check` says what is wrong with the file


def _carries_bounds(made: Manifest) -> bool:
    """Whether nothing that is known before the rounds are judged keeps `accept` from taking bounds."""
    rounds = len({one.index for one in made.rounds} | {one.index for one in made.commands})
    enough = rounds >= MIN_ROUNDS and wrong_allowed(made.looks, rounds) is not None
    return enough and bool(made.git.get("commit")) and made.git.get("dirty") is False
