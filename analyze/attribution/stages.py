"""Which ranges are stages, how they nest, and which is open on a thread at an instant.

A stage is a range of NVTX domain ``aisp`` or, where a trace has none, of the default domain; where that has none of the
program's own either, a phase (``traces/stage_domain.py``). Other domains count only when asked for by name. Stages nest per
thread. A path joins their names with ``/`` (a name's own slash is written ``\\/``); ``measured`` ranges are left out of paths, so
that what they hold directly has the path `WINDOW`. Start/end ranges need not nest: two requests in flight are side by side, even
if one happens to hold the other, so that none is nested in one of its own name (numbers aside), and nothing in one that another
thread ends.

Autograd, data-loader and other worker threads launch work while the stage is open on the thread that waits for them. Where the
launching thread has no stage open, the one that another thread began and this one ends is meant (a request that is handed to a
worker); without such, the stage of the other threads of its process, `AMBIGUOUS` if there are several. Ranges of one path, as
recorded, are one stage.

    dispatcher  begins r1 |--- begins r2 |----------
    worker 1        launch: r1     ends r1 |
    worker 2                           launch: r2       ends r2 |
    autograd        launch: r1   launch: (ambiguous)      launch: r2
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.errors import UsageError
from ...traces.model import Trace, distinct_values
from ...traces.stage_domain import domain_of_stages
from ..intervals import Ints, owned_from
from ..naming.numbers import shapes
from ..result import AMBIGUOUS, NONE, ORPHAN, OUTSIDE
from .steps import EMPTY, NOTHING, Steps, first_of, innermost, nesting, only_one, without

MEASURED: Final = "measured"
ITERATION: Final = "iteration"
START_END: Final = "start_end"
"""Style of ranges that any thread may end, in any order."""
WINDOW: Final = "(window)"
"""Path of the ``measured`` range itself."""

# Codes beside range positions (>= 0) wherever a stage is named by a number.
NO_STAGE: Final = NOTHING
AMBIGUOUS_STAGE: Final = -2
ORPHAN_STAGE: Final = -3
OUTSIDE_STAGE: Final = -4
_CODES: Final = (OUTSIDE_STAGE, ORPHAN_STAGE, AMBIGUOUS_STAGE, NO_STAGE)
"""Behind a table of all stages, each of these is found at its own, negative index."""

_SPECIAL: Final = {NO_STAGE: NONE, AMBIGUOUS_STAGE: AMBIGUOUS, ORPHAN_STAGE: ORPHAN, OUTSIDE_STAGE: OUTSIDE}

Thread = tuple[int, int]
"""(pid, tid)."""


@dataclass(frozen=True)
class Stages:
    """The stage ranges of a trace, sorted by start (longest first); a *stage* is a position in these arrays.

    `end_ns` of a range that was never closed is the end of the trace. `parent` is a position or `NOTHING`. Ranges that nest
    alike share a `node` of the stage tree, which is made when it is asked for; several nodes may share a path, since
    ``measured`` is left out of paths.
    A long class because every lookup is derived from these arrays, once, when it is first asked for.
    """

    range_id: Ints
    pid: Ints
    tid: Ints
    end_tid: Ints  # who ended it; `tid` where nobody did
    start_ns: Ints
    end_ns: Ints
    parent: Ints
    start_end: npt.NDArray[np.bool_]  # not push/pop
    names: pl.Series  # dictionary-encoded
    unclosed: int
    crossing: bool
    domain: str

    def __len__(self) -> int:
        return len(self.range_id)

    @cached_property
    def _tree(self) -> Tree:
        return tree(self.names, self.parent)

    @property
    def node(self) -> Ints:
        """Each stage's node."""
        return self._tree.node

    @property
    def node_parent(self) -> Ints:
        """The node that each node nests in, or `NOTHING`."""
        return self._tree.node_parent

    @property
    def node_path(self) -> Ints:
        """Each node's path as an index into `paths`."""
        return self._tree.node_path

    @property
    def paths(self) -> Sequence[str]:
        """The distinct paths."""
        return self._tree.paths

    def renamed(self, names: pl.Series) -> Self:
        """The same ranges, called `names`. What has been found out of them without these is not looked for again."""
        fresh = replace(self, names=names)
        fresh.__dict__["_before"] = self
        fresh.__dict__.update({name: found for name, found in self.__dict__.items() if name in _NAMELESS})
        return fresh

    @cached_property
    def path_id(self) -> Ints:
        """Each stage's path as an index into `paths`."""
        return self.node_path[self.node] if len(self) else np.empty(0, np.int64)

    @cached_property
    def recorded_path(self) -> Ints:
        """`path_id` by the names that the ranges had before they were renamed."""
        before: Stages | None = self.__dict__.get("_before")
        return self.path_id if before is None else before.recorded_path

    @cached_property
    def is_measured(self) -> npt.NDArray[np.bool_]:
        """Which ranges are ``measured``: a window, but no stages of their own."""
        out = np.zeros(len(self), bool)
        out[self.named(MEASURED)] = True
        return out

    def named(self, name: str) -> npt.NDArray[np.intp]:
        """Positions of the ranges called `name`, in order of start."""
        return np.flatnonzero(is_word(self.names, name))

    @cached_property
    def nodes_below(self) -> dict[int, npt.NDArray[np.intp]]:
        """For each path id: the nodes at or below any node of that path."""
        out: dict[int, set[int]] = {}
        for n in range(len(self.node_parent)):
            cursor = n
            while cursor >= 0:
                out.setdefault(int(self.node_path[cursor]), set()).add(n)
                cursor = int(self.node_parent[cursor])
        return {path: np.array(sorted(nodes)) for path, nodes in out.items()}

    @cached_property
    def paths_above(self) -> list[set[int]]:
        """For each node: the path ids of it and of all nodes above it."""
        out: list[set[int]] = []
        for n, parent in enumerate(self.node_parent.tolist()):  # parents come first
            out.append({int(self.node_path[n])} | (out[parent] if parent >= 0 else set()))
        return out

    @cached_property
    def threads(self) -> dict[Thread, npt.NDArray[np.intp]]:
        """Positions of each thread's stages."""
        return rows_by_thread(self.pid, self.tid)

    @cached_property
    def position_of_range(self) -> dict[int, int]:
        """The stage of each range by its `range_id`."""
        return dict(zip(self.range_id.tolist(), range(len(self)), strict=True))

    @cached_property
    def ranges_of_domain(self) -> list[int]:
        """The `range_id` of every range of the domain, where these stages are only some of them too."""
        ids: list[int] = self.range_id.tolist()
        return ids

    @cached_property
    def own(self) -> dict[Thread, Steps]:
        """The innermost stage of each thread, as a function of time."""
        return {t: self._innermost(r) for t, r in self.threads.items()}

    @cached_property
    def handed(self) -> dict[Thread, Steps]:
        """The innermost stage that each thread ends and another began, as a function of time."""
        return {t: self._innermost(rows) for t, rows in self._handed_by(self.end_tid).items()}

    def in_turn(self, whose: Ints) -> dict[Thread, bool]:
        """Of the stages that one thread began and another ends, by the threads `whose` (`tid` or `end_tid`): whether they follow
        each other, so that the thread has one at a time."""
        found = self._handed_by(whose).items()
        return {t: bool((owned_from(self.start_ns[r], self.end_ns[r]) == self.start_ns[r]).all()) for t, r in found}

    @cached_property
    def is_handed(self) -> npt.NDArray[np.bool_]:
        """Which ranges another thread ends than began them."""
        return np.asarray(self.end_tid != self.tid)

    def _handed_by(self, whose: Ints) -> dict[Thread, npt.NDArray[np.intp]]:
        """Positions of the stages that one thread began and another ends, by the threads `whose`."""
        rows = np.flatnonzero(self.is_handed)
        threads = rows_by_thread(self.pid[rows], whose[rows].astype(np.int64))
        return {thread: rows[mine] for thread, mine in threads.items()}

    def _innermost(self, rows: npt.NDArray[np.intp]) -> Steps:
        return innermost(self.start_ns[rows], self.end_ns[rows], rows.astype(np.int32))

    @cached_property
    def elsewhere(self) -> dict[int, Steps]:
        """Per process: `shared` of all its threads."""
        by_process: dict[int, set[Thread]] = {}
        for thread in (*self.own, *self.handed):
            by_process.setdefault(thread[0], set()).add(thread)
        return {pid: self.shared(sorted(threads)) for pid, threads in by_process.items()}

    def shared(self, threads: Iterable[Thread], absent: Mapping[Thread, Steps] | None = None) -> Steps:
        """The one stage that `threads` have open or were handed, `AMBIGUOUS_STAGE` if they are several. Ranges of one recorded
        path are one stage, of which the latest is meant. A thread does not count while `absent` has a value for it."""
        functions = []
        for thread in threads:
            away = (absent or {}).get(thread, EMPTY)
            functions += [without(f[thread], away) for f in (self.own, self.handed) if thread in f]
        return only_one(functions, AMBIGUOUS_STAGE, self.recorded_path if len(functions) > 1 else None)

    def on_thread(self, thread: Thread, across: bool) -> Steps:
        """The stage that work of `thread` belongs to, as a function of time; `across` allows the cross-thread rule."""
        if not across:
            return self.own.get(thread, EMPTY)
        if thread not in self._across:
            self._across[thread] = reduce(first_of, self.others(thread), self.own.get(thread, EMPTY))
        return self._across[thread]

    def others(self, thread: Thread) -> list[Steps]:
        """The stages that work of `thread` belongs to by the cross-thread rule where it has none of its own, the first that has
        an answer before the next."""
        return [self.handed.get(thread, EMPTY), self.elsewhere.get(thread[0], EMPTY)]

    @cached_property
    def _across(self) -> dict[Thread, Steps]:
        """What `on_thread` has said so far with the cross-thread rule."""
        return {}

    @cached_property
    def iteration_of(self) -> dict[int, Steps]:
        """Per process: the number of the ``iteration`` range open at an instant (0-based, in order of start)."""
        return {pid: innermost(self.start_ns[rows], self.end_ns[rows]) for pid, rows in self._iterations.items()}

    @cached_property
    def _iterations(self) -> dict[int, npt.NDArray[np.intp]]:
        """Per process: positions of its ``iteration`` ranges, in order of start."""
        rows = self.named(ITERATION)
        return {pid: rows[self.pid[rows] == pid] for pid in np.unique(self.pid[rows]).tolist()}

    def iteration_on(self, thread: Thread) -> Steps:
        """The number of the ``iteration`` range open on `thread`, else in its process: replicas that are threads of one
        process each have their own."""
        process = self.iteration_of.get(thread[0], EMPTY)
        own = self.iterations_by_thread.get(thread)
        return process if own is None else first_of(own, process)

    @cached_property
    def iterations_by_thread(self) -> dict[Thread, Steps]:
        """What is open on each thread by itself; only of processes in which several threads have such ranges."""
        out: dict[Thread, Steps] = {}
        for rows in self._iterations.values():
            threads = rows_by_thread(self.pid[rows], self.tid[rows])
            for thread, number in threads.items() if len(threads) > 1 else ():
                mine = rows[number]
                out[thread] = innermost(self.start_ns[mine], self.end_ns[mine], number.astype(np.int32))
        return out

    @cached_property
    def levels(self) -> list[npt.NDArray[np.intp]]:
        """Positions by depth, outermost first."""
        return levels_of(self.parent)

    def node_of(self, codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """The node of each stage code, `NOTHING` for the negative ones."""
        nodes: npt.NDArray[np.int32] = np.append(self.node, np.full(len(_CODES), NOTHING)).astype(np.int32)
        out: npt.NDArray[np.int32] = nodes[codes]  # negative codes count from the end
        return out

    def path_of_code(self, codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """The path id of each stage code; the negative ones stand for themselves."""
        paths: npt.NDArray[np.int32] = np.append(self.path_id, _CODES).astype(np.int32)
        out: npt.NDArray[np.int32] = paths[codes]  # negative codes count from the end
        return out

    @cached_property
    def path_names(self) -> dict[int, str]:
        """The path of each path id, and what the negative stage codes are called."""
        return dict(enumerate(self.paths)) | _SPECIAL

    def path_of(self, codes: Ints) -> list[str]:
        """The path of each stage code, or what a negative one is called."""
        return [self.path_names[path] for path in self.path_of_code(codes).tolist()]


_NAMELESS: Final = frozenset(
    ("threads", "position_of_range", "ranges_of_domain", "own", "handed", "is_handed", "elsewhere", "_across", "levels")
)
"""Cached properties of `Stages` that names have no part in, or recorded ones only."""


def outside(stage: Ints, inside: npt.NDArray[np.bool_] | None) -> Ints:
    """Stage codes with those outside the window's range (`inside` false) replaced by `OUTSIDE_STAGE`.

    Work without any stage is outside too. Orphans and ambiguous work stay what they are: nothing says where they belong.
    """
    if inside is None:
        return stage
    belongs = inside[np.maximum(stage, 0)] if len(inside) else np.zeros(len(stage), bool)
    keep = np.where(stage >= 0, belongs, (stage == ORPHAN_STAGE) | (stage == AMBIGUOUS_STAGE))
    return np.where(keep, stage, stage.dtype.type(OUTSIDE_STAGE))


def levels_of(parent: Ints) -> list[npt.NDArray[np.intp]]:
    """Positions of a forest by depth, outermost first; parents may lie anywhere."""
    depth = np.zeros(len(parent), np.int64)
    cursor = parent.copy()
    while (cursor >= 0).any():
        depth += cursor >= 0
        cursor = np.where(cursor >= 0, parent[cursor], NOTHING)
    return [np.flatnonzero(depth == d) for d in range(int(depth.max(initial=-1)) + 1)]


def choose_domain(trace: Trace, domain: str | None) -> str:
    """The NVTX domain whose ranges are stages.

    `domain` if given (raises `UsageError` if the trace has no such domain), else as ``traces/stage_domain.py`` has it.
    """
    codes = trace.ranges.get_column("domain")
    words = distinct_values(codes)
    used = np.bincount(codes.drop_nulls().to_physical().to_numpy(), minlength=len(words))
    present = [word for word, count in zip(words, used.tolist(), strict=True) if count]
    if domain is not None:
        if domain not in present:
            known = ", ".join(repr(d) for d in sorted(d or "" for d in present)) or "none at all"
            raise UsageError(f"the trace has no ranges of domain {domain!r}; it has {known}")
        return domain
    return domain_of_stages(trace.ranges)


def find_stages(trace: Trace, *, domain: str | None, end_ns: int) -> Stages:
    """The stages of `trace`; a range still open at the end of the recording lasts until `end_ns`."""
    chosen = choose_domain(trace, domain)
    table = trace.ranges.filter(pl.Series(is_word(trace.ranges["domain"], chosen)))
    closed = table.get_column("end_ns")
    table = table.with_columns(
        pl.col("end_ns").fill_null(max(end_ns, 0)),
        pl.when(pl.col("end_ns").is_null()).then("tid").otherwise(pl.coalesce("end_tid", "tid")).alias("end_tid"),
    )
    table = table.with_columns(pl.max_horizontal("start_ns", "end_ns").alias("end_ns"))
    if not _in_order(table):
        table = table.sort(["start_ns", "end_ns", "range_id"], descending=[False, True, False])
    start, end = table["start_ns"].to_numpy(), table["end_ns"].to_numpy()
    pid, tid = table["pid"].to_numpy().astype(np.int64), table["tid"].to_numpy().astype(np.int64)
    end_tid, names = table["end_tid"].to_numpy(), _without_nulls(table["name"])
    start_end = is_word(table["style"], START_END)
    parent, crossing = parents(pid, tid, end_tid, start, end, start_end, names)
    return Stages(
        range_id=table["range_id"].to_numpy(),
        pid=pid,
        tid=tid,
        end_tid=end_tid,
        start_ns=start,
        end_ns=end,
        parent=parent,
        start_end=start_end,
        names=names,
        unclosed=closed.null_count(),
        crossing=crossing,
        domain=chosen,
    )


def parents(
    pid: Ints,
    tid: Ints,
    end_tid: Ints,
    start_ns: Ints,
    end_ns: Ints,
    start_end: npt.NDArray[np.bool_],
    names: pl.Series,
) -> tuple[Ints, bool]:
    """(position of the range that each range nests in, or `NOTHING`; whether any two of a thread cross).

    Ranges are sorted by start, longest first. Those that another thread ends may cross any.
    """
    handed = end_tid != tid
    parent = np.full(len(pid), NOTHING, np.int64)
    crossing = False
    for rows in rows_by_thread(pid, tid).values():
        found, proper = nesting(start_ns[rows], end_ns[rows])
        parent[rows] = np.where(found >= 0, rows[found], NOTHING)
        if not proper and handed[rows].any():
            kept = rows[~handed[rows]]
            _, proper = nesting(start_ns[kept], end_ns[kept])
        crossing |= not proper
    return _beside(parent, start_end, handed, names), crossing


def _beside(parent: Ints, start_end: npt.NDArray[np.bool_], handed: npt.NDArray[np.bool_], names: pl.Series) -> Ints:
    """`parent` with the next ancestor that may be one where a range lies in a start/end range that it is not nested in: one
    that another thread ends (`handed`), or, for a start/end range, one of the same name, numbers aside."""
    if not start_end.any():
        return parent
    alike = shapes(distinct_values(names))[0][names.to_physical().to_numpy()]
    out = parent.copy()
    rows = np.flatnonzero(out != NOTHING)
    while len(rows):
        above = out[rows]
        refused = handed[above] | (start_end[above] & start_end[rows] & (alike[above] == alike[rows]))
        rows = rows[refused]
        out[rows] = parent[above[refused]]
        rows = rows[out[rows] != NOTHING]
    return out


def is_word(column: pl.Series, word: str) -> npt.NDArray[np.bool_]:
    """Which rows of a dictionary-encoded column are `word`; each distinct value is looked at once."""
    words = column.dtype.categories if isinstance(column.dtype, pl.Enum) else pl.Series(distinct_values(column))
    code = words.index_of(word)
    if code is None:
        return np.zeros(len(column), bool)
    codes = column.to_physical().cast(pl.Int64).fill_null(NOTHING).to_numpy()
    return np.asarray(codes == code)


def _without_nulls(names: pl.Series) -> pl.Series:
    """`names` with "" for null. Its dictionary may hold values that no row has."""
    if not names.null_count():
        return names
    words = distinct_values(names)
    return names.cast(pl.Enum(words if "" in words else [*words, ""])).fill_null("")


def _in_order(table: pl.DataFrame) -> bool:
    """Whether ranges lie as stages do: by start, longest first, then range_id. They do unless some never ended."""
    start, end, row = (table[c].to_numpy() for c in ("start_ns", "end_ns", "range_id"))
    later = start[1:] > start[:-1]
    same = start[1:] == start[:-1]
    shorter = (end[1:] < end[:-1]) | ((end[1:] == end[:-1]) & (row[1:] > row[:-1]))
    return bool((later | (same & shorter)).all())


def rows_by_thread(pid: Ints, tid: Ints) -> dict[Thread, npt.NDArray[np.intp]]:
    """The rows of each thread, in their own order."""
    if len(pid) == 0:
        return {}
    order = np.argsort(pid << 32 | tid, kind="stable")
    p, t = pid[order], tid[order]
    first = np.flatnonzero(np.r_[True, (p[1:] != p[:-1]) | (t[1:] != t[:-1])])
    return {(int(p[i]), int(t[i])): rows for i, rows in zip(first, np.split(order, first[1:]), strict=True)}


@dataclass(frozen=True, slots=True)
class Tree:
    """How stages nest by name: the node of each, and of each node its parent (or `NOTHING`) and its place in `paths`."""

    node: Ints
    node_parent: Ints
    node_path: Ints
    paths: Sequence[str]


def tree(names: pl.Series, parent: Ints) -> Tree:
    """The tree of ranges that are called `names` and nest as `parent` says, level by level from the outermost.

    Many ranges share few nodes, so each level looks only at its distinct (parent's node, own name) pairs.
    """
    words = distinct_values(names)
    code = names.to_physical().to_numpy().astype(np.int64)
    node = np.zeros(len(code), np.int64)
    node_parent: list[int] = []
    node_path: list[int] = []
    paths: list[str] = []
    position: dict[str, int] = {}
    for level in levels_of(parent):
        above = np.where(parent[level] >= 0, node[parent[level]], NOTHING)
        pairs, which = np.unique((above + 1) * len(words) + code[level], return_inverse=True)
        node[level] = len(node_parent) + which
        for pair in pairs.tolist():
            up = pair // len(words) - 1
            path = _join(paths[node_path[up]] if up >= 0 else "", words[pair % len(words)])
            if path not in position:
                position[path] = len(paths)
                paths.append(path)
            node_parent.append(up)
            node_path.append(position[path])
    return Tree(node, np.array(node_parent, np.int64), np.array(node_path, np.int64), paths)


UNNAMED: Final = "(unnamed)"
"""A range whose name is empty, in a path."""


def _join(prefix: str, name: str) -> str:
    prefix = "" if prefix == WINDOW else prefix
    if name == MEASURED:
        return prefix or WINDOW
    escaped = name.replace("\\", "\\\\").replace("/", "\\/") or UNNAMED
    return f"{prefix}/{escaped}" if prefix else escaped
