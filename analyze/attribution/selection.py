"""Which of a trace's ranges are stages, chosen by the person who asks: by name, by what they lie in, by depth.

A foreign program may push thousands of ranges that were never meant as stages. A `Selection` takes some away, in this order:

    below    only instances of that range, what nests in them, and what other threads of the process open meanwhile
    stages   of those, only ranges whose name the regular expression matches somewhere
    depth    of those, only that many levels; what is deeper is folded into its ancestor of the last level

Ranges that `below` and `stages` take away are not ranges at all any more: paths skip them, and a thread that has only such
ranges open has none, so that its work goes where the cross-thread rule sends it. Folding is different: it renames. Work of
a folded range belongs to the ancestor that it nests in, whatever the clock says, and no attribution changes.

The window is settled before, by all ranges: a selection names the parts of a time, it does not choose the time. Iterations
are counted before too. So the cells of a ledger, summed over stages, are the same under every selection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.errors import UsageError
from ...traces.model import Trace, distinct_values
from ..intervals import Ints
from .folding import folded, names_matching, ranges_called
from .stages import MEASURED, OUTSIDE_STAGE, Stages, Thread, outside, parents, rows_by_thread
from .steps import NOTHING, Steps, innermost

NAMES_SHOWN: Final = 8
"""How many existing names an error lists."""

LONGEST_NAME: Final = 40
"""Characters of a name in an error; a trace may hold names of a megabyte."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to take as stages; null means no restriction.

    `stages` is a regular expression (Python's, found anywhere in a range's name), `depth` at least 1, `below` a range
    by name or path, or one of its instances as ``path#2``.
    """

    stages: str | None = None
    depth: int | None = None
    below: str | None = None

    def __bool__(self) -> bool:
        return (self.stages, self.depth, self.below) != (None, None, None)


@dataclass(frozen=True)
class Selected(Stages):
    """Stages that are some of a trace's ranges. `whole` are all of them, `source` each stage's position there.

    `unfolded` are the selected ranges before folding, `target` each one's position here. With `inside` (which of `whole`
    belong to the window) an instant that `whole` puts outside the window stays outside.
    """

    whole: Stages
    source: Ints
    unfolded: Stages
    target: Ints
    inside: npt.NDArray[np.bool_] | None = None

    @cached_property
    def own(self) -> dict[Thread, Steps]:
        """The innermost stage of each thread, as a function of time; a folded range stands for its ancestor."""
        return {thread: self._folded(steps) for thread, steps in self.unfolded.own.items()}

    @cached_property
    def handed(self) -> dict[Thread, Steps]:
        """As `own`, of the ranges that each thread ends and another began."""
        return {thread: self._folded(steps) for thread, steps in self.unfolded.handed.items()}

    def shared(self, threads: Iterable[Thread], absent: Mapping[Thread, Steps] | None = None) -> Steps:
        """As of the ranges before folding, which renames and changes no attribution."""
        return self._folded(self.unfolded.shared(threads, absent))

    def _folded(self, steps: Steps) -> Steps:
        target = np.append(self.target, NOTHING).astype(np.int32)
        found = target[np.maximum(steps.value, NOTHING)]  # NOTHING is the last
        return Steps(steps.at, np.where(steps.value < NOTHING, steps.value, found).astype(np.int32))

    def on_thread(self, thread: Thread, across: bool) -> Steps:
        """As `Stages.on_thread`, and `OUTSIDE_STAGE` where the window, settled by all ranges, excludes the thread."""
        mine = super().on_thread(thread, across)
        if self.inside is None:
            return mine
        settled = self.whole.on_thread(thread, across)
        ever = np.iinfo(np.int64).min  # before its first step, too, a thread is outside
        at = np.unique(np.concatenate([[ever], mine.at, settled.at]))
        excluded = outside(settled(at), self.inside) == OUTSIDE_STAGE
        code = mine(at)
        return Steps(at, np.where(excluded, code.dtype.type(OUTSIDE_STAGE), code))

    @cached_property
    def position_of_range(self) -> dict[int, int]:
        """The stage of each selected range by its `range_id`; that of a folded range is its ancestor."""
        return dict(zip(self.unfolded.range_id.tolist(), self.target.tolist(), strict=True))

    @cached_property
    def ranges_of_domain(self) -> list[int]:
        """The `range_id` of every range of the domain, selected or not."""
        return self.whole.ranges_of_domain

    def for_window(self, inside: npt.NDArray[np.bool_] | None) -> Selected:
        """These stages, looked at through a window (`inside`: which of `whole` belong to it)."""
        return self if inside is None else replace(self, inside=inside)


def chosen_stages(found: Stages, trace: Trace, selection: Selection | None, *, fold: bool) -> Stages:
    """The stages of `found` (all ranges of the domain) that `selection` leaves, numbered siblings under one name where
    `fold` says so. Raises what `select` raises.
    """
    stages = select(found, trace, selection)
    return folded(stages) if fold else stages


def select(found: Stages, trace: Trace, selection: Selection | None) -> Stages:
    """The stages of `found` (all ranges of the domain) that `selection` leaves; `found` itself if it restricts nothing.

    Raises `UsageError` for an invalid regular expression or depth, for a range that does not exist, and for a selection
    that leaves nothing; the message lists the names that exist.
    """
    if not selection:
        return found
    if selection.depth is not None and selection.depth < 1:
        raise UsageError(f"--depth is {selection.depth}; give at least 1, which keeps the outermost stages")
    keep = np.ones(len(found), bool)
    if selection.below is not None:
        keep = below(found, instances(found, selection.below, trace))
    if selection.stages is not None:
        keep &= names_matching(found, selection.stages, "--stages")
    rows = np.flatnonzero(keep)
    if len(rows) == 0:
        raise UsageError(_nothing(found, trace, selection))
    chosen = _subset(found, trace, rows)
    if selection.depth is None:
        return selected(found, rows, chosen, chosen, np.arange(len(rows)))
    level = levels(chosen)
    kept = np.flatnonzero(level <= selection.depth)
    position = np.full(len(chosen), NOTHING, np.int64)
    position[kept] = np.arange(len(kept))
    target = position.copy()
    for rows_of_level in chosen.levels[1:]:  # outermost first, so that every parent has its target already
        deep = rows_of_level[position[rows_of_level] == NOTHING]
        target[deep] = target[chosen.parent[deep]]
    above = chosen.parent[kept]
    shallow = rebuilt(chosen, kept, np.where(above >= 0, target[above], NOTHING))
    return selected(found, rows[kept], shallow, chosen, target)


def instances(found: Stages, name: str, trace: Trace) -> Ints:
    """Positions of all ranges with that path, else with that name; of one of them for ``name#2`` (counted from 0). Folded
    names are understood too (`folding.ranges_called`).

    Raises `UsageError` if there is none.
    """
    rows, wanted, number = ranges_called(found, name)
    if wanted == MEASURED:
        rows = found.named(MEASURED).astype(np.int64)
    if len(rows) and number is not None:
        if number >= len(rows):
            raise UsageError(f"range {wanted!r} has {len(rows)} instances, so there is no #{number}; count from 0")
        rows = rows[[number]]
    if len(rows):
        return rows
    from ...traces.faults import nearest

    near = nearest(name, (n for n, _ in _count(found) if len(n) <= LONGEST_NAME), _names(found))
    raise UsageError(f"{_where(found, trace)} has no range called {name!r}{near}")


def below(found: Stages, roots: Ints) -> npt.NDArray[np.bool_]:
    """Which ranges are `roots`, nest in one, or belong to a stack that another thread of the process began under one.

    The last are the workers' ranges: those whose outermost ancestor starts while a root is open.
    """
    keep = np.zeros(len(found), bool)
    keep[roots] = True
    outermost = np.flatnonzero(found.parent == NOTHING)
    for (pid, tid), mine in rows_by_thread(found.pid[roots], found.tid[roots]).items():
        here = np.sort(roots[mine])
        open_root = innermost(found.start_ns[here], found.end_ns[here])
        workers = outermost[(found.pid[outermost] == pid) & (found.tid[outermost] != tid)]
        keep[workers] |= open_root(found.start_ns[workers]) != NOTHING
    for level in found.levels[1:]:
        keep[level] |= keep[found.parent[level]]
    return keep


def levels(stages: Stages) -> Ints:
    """How many names each stage's path has; ``measured`` adds none."""
    own = (~stages.is_measured).astype(np.int64)
    total = own.copy()
    for level in stages.levels[1:]:
        total[level] += total[stages.parent[level]]
    return total


def _subset(found: Stages, trace: Trace, rows: npt.NDArray[np.intp]) -> Stages:
    """The ranges `rows` of `found` as if there were no others: nested anew, per thread."""
    pid, tid, end_tid, start, end = (
        column[rows] for column in (found.pid, found.tid, found.end_tid, found.start_ns, found.end_ns)
    )
    parent, crossing = parents(pid, tid, end_tid, start, end, found.start_end[rows], found.names.gather(rows))
    still_open = trace.ranges.filter(pl.col("end_ns").is_null())["range_id"].to_numpy()
    unclosed = int(np.isin(found.range_id[rows], still_open).sum())
    return replace(rebuilt(found, rows, parent), unclosed=unclosed, crossing=crossing)


def rebuilt(stages: Stages, rows: npt.NDArray[np.intp], parent: Ints, names: pl.Series | None = None) -> Stages:
    """The ranges `rows` of `stages`, which nest as `parent` says and are called `names`, by default as before."""
    return Stages(
        range_id=stages.range_id[rows],
        pid=stages.pid[rows],
        tid=stages.tid[rows],
        end_tid=stages.end_tid[rows],
        start_ns=stages.start_ns[rows],
        end_ns=stages.end_ns[rows],
        parent=parent,
        start_end=stages.start_end[rows],
        names=stages.names.gather(rows) if names is None else names,
        unclosed=stages.unclosed,
        crossing=stages.crossing,
        domain=stages.domain,
    )


def selected(whole: Stages, source: Ints, stages: Stages, unfolded: Stages, target: Ints) -> Selected:
    """`stages` as those of `whole` at `source`; `unfolded` and `target` as of `Selected`."""
    fields = {name: getattr(stages, name) for name in Stages.__dataclass_fields__}
    return Selected(**fields, whole=whole, source=source, unfolded=unfolded, target=target)


def _nothing(found: Stages, trace: Trace, selection: Selection) -> str:
    where = _where(found, trace)
    if selection.below is None:
        hint = _of_path(found, selection.stages) or _names(found)
        return f"{where} has no range whose name matches --stages {selection.stages!r}; {hint}"
    return (
        f"{where} has no range in --range {selection.below!r} whose name matches --stages {selection.stages!r}; "
        f"{_names(found)}"
    )


def _where(found: Stages, trace: Trace) -> str:
    domain = f"domain {found.domain!r}" if found.domain else "the default domain"
    return f"{domain} of {trace.meta.file}"


def _of_path(found: Stages, asked: str | None) -> str:
    """What to ask for where a path was given, as tables of stages have it, of which the last part is a name; else empty."""
    above, _, name = (asked or "").rpartition("/")
    if not above or name not in set(found.names.to_list()):
        return ""
    return f"that is a path, and --stages takes names: --stages {name}, or --range {asked} for this range and all that is in it"


def _names(found: Stages) -> str:
    """The names that exist, the most frequent first."""
    count = _count(found)
    if not count:
        return "it holds no ranges at all"
    frequent = [name for name, _ in count[:NAMES_SHOWN]]
    shown = [repr(n if len(n) <= LONGEST_NAME else n[: LONGEST_NAME - 1] + "…") for n in frequent]
    more = f" and {len(count) - NAMES_SHOWN} more" if len(count) > NAMES_SHOWN else ""
    return f"its names are {', '.join(shown)}{more}"


def _count(found: Stages) -> list[tuple[str, int]]:
    """(name, number of ranges) of all names that occur, the most frequent first, then by name."""
    words = distinct_values(found.names)
    counts = np.bincount(found.names.to_physical().to_numpy(), minlength=len(words)).tolist()
    return sorted(((w, n) for w, n in zip(words, counts, strict=True) if n), key=lambda item: (-item[1], item[0]))
