"""The iterations of a trace, and which of them are its steady state.

    first op                                                          last op
    |-- start-up --|-- step 0 ------|step 1|step 2|step 3| ... |step 39|-- after --|
                    warm-up          the steady window: whole iterations

Which ranges are iterations, the first rule that finds any:

1. `--iterations REGEX`: the outermost ranges whose name it matches.
2. Ranges called ``iteration``, ``step`` or ``ProfilerStep``, numbers and case aside, at least two. They fill a quarter of the
   time from the first to the last of them, and they are not one part of a larger range that repeats with them: PyTorch code
   calls ``optimizer.step()`` ``step``, too.
3. The outermost range that repeats at least five times on one thread without overlapping itself and covers at least half of
   the time from the first op to the last. Under half, most of the work would be left out.
4. What the kernels repeat (`patterns.py`), without any range.

Names are compared folded (``step #``), by path, so that ``train/step`` and ``eval/step`` are two sequences. Of several the one
that covers most is taken, and `others` names the rest. Ranges under which no op was launched (a loader's thread) are taken
only if no other sequence has ops. A range that was still open when the recording stopped is not whole and never counts.

Warm-up: leading iterations longer than `limit` of the later half, at most a third of all. The later half is the reference
because warm-up is slow for causes that end (lazy loading, autotuning, compilation, a growing allocator). The limit adapts to
the spread, so a loop of uneven iterations loses none for that; a quarter above the median is the least that counts, since less
hardly moves a mean. A third is the most, since what is slow for longer is how the program runs.

Threads that run the same sequence in step (replicas, ranks of one trace) share the window, from the first start to the last end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.errors import UsageError
from ..intervals import Ints
from ..steady import SHOWN, FoundBy, Instance, Other, Steady, limit
from .folding import folded, name_shapes, names_matching, without_last_number
from .patterns import find_pattern
from .stages import ITERATION, Stages
from .steps import NOTHING

NAMED: Final = frozenset({"iteration", "step", "profilerstep"})
"""What iterations are called, numbers and case aside. ``ProfilerStep#3`` is written by torch.profiler."""

LEAST_NAMED: Final = 2
"""Iterations that are called so; of one there is nothing to be steady."""

LEAST_FILL: Final = 0.25
"""Of the time from its first to its last instance that a named sequence fills; an optimizer's step seldom takes as much."""

LEAST_REPEATS: Final = 5
"""Instances of a range that nothing but repetition marks; fewer may be phases of a program."""

LEAST_COVER: Final = 0.5
"""Of the time from first to last op."""

MOST_WARM_UP: Final = 1 / 3
"""Of all iterations."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Seeking:
    """How iterations are looked for; null: by the rules of the module. `as_window`: where they are found and no window is given,
    the steady ones are the window."""

    pattern: str | None = None
    skip: int | None = None
    as_window: bool = False


@dataclass(frozen=True, slots=True)
class Sequences:
    """The iterations that were found, and their ranges (positions): of one thread, and of those that run in step with it."""

    steady: Steady
    ranges: tuple[Ints, ...]


def find_steady(
    found: Stages, has_ops: Flags, closed: Flags, ops: tuple[int, int] | None, asked: Seeking
) -> Sequences | None:
    """The iterations among `found` (all ranges of a domain), or null if there are none.

    `has_ops` says under which ranges ops were launched (`launching`), `closed` which ended; `ops` are the first op's start and
    the last op's end. Raises `UsageError` for an invalid expression, and for a `skip` of everything.
    """
    if asked.pattern is not None and asked.pattern.isdecimal():  # as an expression it matches any name with that digit
        raise UsageError(
            f"--iterations {asked.pattern} is a number; the option takes the name of ranges or kernels. `aisp-trace analyze "
            f"TRACE --window '{ITERATION}#{asked.pattern}'` shows one iteration"
        )
    if asked.skip is not None and asked.skip < 0:
        raise UsageError(f"--skip is {asked.skip}; give how many iterations to leave out, 0 or more")
    if len(found) == 0:
        return None
    short = folded(found)
    by, sequences = _sequences(found, short, closed & ~found.is_measured, ops, asked)
    working = [rows for rows in sequences if has_ops[rows].any()] or sequences
    if not working:
        return None
    ranked = sorted(working, key=lambda rows: (-_sum(found, rows), -len(rows), int(found.start_ns[rows[0]])))
    chosen = ranked[0]
    path = short.paths[short.path_id[chosen[0]]]
    length = found.end_ns[chosen] - found.start_ns[chosen]
    count, why = _warm_up(length, asked.skip)
    together = [chosen, *(rows for rows in ranked[1:] if _in_step(found, short, chosen, rows))]
    window = (
        min(int(found.start_ns[rows[count]]) for rows in together),
        max(int(found.end_ns[rows[-1]]) for rows in together),
    )
    others = [rows for rows in ranked[1:] if not any(rows is one for one in together)]
    steady = Steady(
        path=path,
        found_by=by,
        instances=_instances(found, short, chosen),
        warm_up=count,
        why=why,
        others=tuple(Other(short.paths[short.path_id[r[0]]], len(r), _sum(found, r)) for r in others[:SHOWN]),
        window=window,
        ops=ops,
    )
    return Sequences(steady, tuple(together))


def steady_pattern(table: pl.DataFrame, ops: tuple[int, int] | None, asked: Seeking) -> Steady | None:
    """The iterations that the kernels of `table` (the trace's ops) repeat, or null if there are none.

    Raises `UsageError` for an expression that no range and no kernel matches, and for a `skip` of everything.
    """
    pattern = find_pattern(table, asked.pattern)
    if pattern is None:
        if asked.pattern is not None:
            raise UsageError(
                f"--iterations {asked.pattern!r} matches no range of this trace that ended, and there are too few operations "
                "to look among; `aisp-trace analyze --window all` lists the names"
            )
        return None
    times = list(zip(pattern.start_ns.tolist(), pattern.end_ns.tolist(), strict=True))
    count, why = _warm_up(pattern.end_ns - pattern.start_ns, asked.skip)
    return Steady(
        path=pattern.mark,
        found_by="kernels",
        instances=tuple(Instance(f"{ITERATION}#{i}", *one) for i, one in enumerate(times)),
        warm_up=count,
        why=why,
        others=(),
        window=(times[count][0], times[-1][1]),
        ops=ops,
        every=pattern.ops,
    )


def numbered(spec: object, steady: Steady | None) -> tuple[int, int] | None:
    """The instants of ``iteration#5`` or ``iteration#5:iteration#14``, counted from 0; null if `spec` is neither.

    Raises `UsageError` for a number beyond the last, and for a slice that ends before it starts.
    """
    asked = (
        re.fullmatch(rf"{ITERATION}#(\d{{1,9}})(?::{ITERATION}#(\d{{1,9}}))?", spec) if isinstance(spec, str) else None
    )
    if asked is None or steady is None:
        return None
    first, last = int(asked[1]), int(asked[2] or asked[1])
    many = len(steady.instances)
    if max(first, last) >= many:
        raise UsageError(
            f"--window {spec!r}: there are {many:,} iterations, so the last is {ITERATION}#{many - 1}; count from 0"
        )
    if last < first:
        raise UsageError(f"--window {spec!r} ends before it starts; name the earlier iteration first")
    return steady.instances[first].start_ns, steady.instances[last].end_ns


def launching(found: Stages, stage: Ints) -> Flags:
    """Under which of `found` ops were launched; `stage` is the code of each op."""
    out = np.zeros(len(found), bool)
    out[stage[stage >= 0]] = True
    for level in reversed(found.levels[1:]):
        out[found.parent[level[out[level]]]] = True
    return out


def _sequences(
    found: Stages, short: Stages, usable: Flags, ops: tuple[int, int] | None, asked: Seeking
) -> tuple[FoundBy, list[Ints]]:
    """How iterations were found, and the sequences (positions in order of start) that may be them."""
    if asked.pattern is not None:
        matched = names_matching(found, asked.pattern, "--iterations") & usable
        rows = np.flatnonzero(matched & ~_inside(found, matched))
        if len(rows) == 0:
            return "option", []
        sequences = [one for one in _grouped(found, short, rows) if _apart(found, one)]
        if not sequences:
            raise UsageError(f"the ranges that --iterations {asked.pattern!r} matches overlap; name those of one loop")
        return "option", sequences
    named = np.flatnonzero(_called_so(found) & usable)
    kept = [
        rows
        for rows in _grouped(found, short, named, LEAST_NAMED)
        if _apart(found, rows) and _fills(found, rows) and not _is_part(found, short, rows)
    ]
    if kept:
        return "name", _outermost(found, kept)
    every = _grouped(found, short, np.flatnonzero(usable), LEAST_REPEATS)
    return "repetition", _outermost(found, [r for r in every if _apart(found, r) and _covers(found, r, ops)])


def _grouped(found: Stages, short: Stages, rows: npt.NDArray[np.intp], least: int = 1) -> list[Ints]:
    """`rows` by thread and folded path, groups of at least so many, each in order of start."""
    if len(rows) == 0:
        return []
    thread = np.unique(found.pid[rows] << 32 | found.tid[rows], return_inverse=True)[1]
    key = thread * (int(short.path_id.max()) + 1) + short.path_id[rows]
    order = np.argsort(key, kind="stable")
    cuts = np.flatnonzero(np.diff(key[order])) + 1
    return [rows[part].astype(np.int64) for part in np.split(order, cuts) if len(part) >= least]


def _called_so(found: Stages) -> Flags:
    """Which ranges have one of the names in `NAMED`."""
    which, known = name_shapes(found)
    verdict = np.array([without_last_number(one).lower() in NAMED for one in known], bool)
    return np.asarray(verdict[which][found.names.to_physical().to_numpy()])


def _inside(found: Stages, chosen: Flags) -> Flags:
    """Which ranges are nested in one that is `chosen`, at any depth."""
    out = np.zeros(len(found), bool)
    for level in found.levels[1:]:
        above = found.parent[level]
        out[level] = chosen[above] | out[above]
    return out


def _outermost(found: Stages, sequences: Sequence[Ints]) -> list[Ints]:
    """Those that do not lie, most of them, in another one."""
    every = np.zeros(len(found), bool)
    every[reduce(np.union1d, sequences, np.empty(0, np.int64))] = True
    inside = _inside(found, every)
    return [rows for rows in sequences if inside[rows].mean() < 0.5]


def _apart(found: Stages, rows: Ints) -> bool:
    """Whether none of `rows` overlaps the next."""
    return bool((found.start_ns[rows][1:] >= found.end_ns[rows][:-1]).all())


def _fills(found: Stages, rows: Ints) -> bool:
    """Whether `rows` fill enough of the time from the first to the last of them."""
    return _sum(found, rows) >= LEAST_FILL * int(found.end_ns[rows[-1]] - found.start_ns[rows[0]])


def _is_part(found: Stages, short: Stages, rows: Ints) -> bool:
    """Whether each of `rows` lies in a range of its own, and these repeat: then that is the iteration, and this a part of it."""
    above = found.parent[rows]
    above = above[above != NOTHING]
    above = above[~found.is_measured[above]]
    if len(above) < len(rows):
        return False
    return len(np.unique(above)) == len(rows) >= LEAST_REPEATS and len(np.unique(short.path_id[above])) == 1


def _covers(found: Stages, rows: Ints, ops: tuple[int, int] | None) -> bool:
    if ops is None or ops[1] <= ops[0]:
        return False
    start, end = np.maximum(found.start_ns[rows], ops[0]), np.minimum(found.end_ns[rows], ops[1])
    return int(np.maximum(end - start, 0).sum()) >= LEAST_COVER * (ops[1] - ops[0])


def _in_step(found: Stages, short: Stages, chosen: Ints, rows: Ints) -> bool:
    """Whether `rows`, of another thread, are the same iterations: as many of the same path, the k-th beside the k-th."""
    if len(rows) != len(chosen) or short.path_id[rows[0]] != short.path_id[chosen[0]]:
        return False
    beside = (found.start_ns[rows] < found.end_ns[chosen]) & (found.end_ns[rows] > found.start_ns[chosen])
    return bool(beside.all())


def _warm_up(length: Ints, skip: int | None) -> tuple[int, str]:
    """How many leading iterations are set aside, and why."""
    if skip is not None:
        if skip >= len(length):
            raise UsageError(f"--skip {skip} leaves none of {len(length)} iterations; give less than {len(length)}")
        return skip, "--skip" if skip else ""
    most = limit(length[len(length) // 2 :])
    slow = length[: int(len(length) * MOST_WARM_UP)] > most
    count = int(np.argmin(slow)) if not slow.all() else len(slow)
    return count, "slower than the later half" if count else ""


def _instances(found: Stages, short: Stages, rows: Ints) -> tuple[Instance, ...]:
    names = found.names.gather(rows).to_list()
    path = short.path_id[rows[0]]
    if len(set(names)) < len(names):
        # counted as `--window` counts: all of that path in the process, in order of start
        alike = np.flatnonzero((short.path_id == path) & (found.pid == found.pid[rows[0]]))
        text = without_last_number(short.paths[path])
        names = [f"{text}#{k}" for k in np.searchsorted(alike, rows).tolist()]
    times = zip(names, found.start_ns[rows].tolist(), found.end_ns[rows].tolist(), strict=True)
    return tuple(Instance(str(name), start, end) for name, start, end in times)


def _sum(found: Stages, rows: Ints) -> int:
    return int((found.end_ns[rows] - found.start_ns[rows]).sum())
