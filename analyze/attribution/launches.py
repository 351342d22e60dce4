"""Which call launched each op, and which stage the op therefore belongs to.

Ops and calls join on (pid, correlation); correlation ids alone collide between processes. One call may launch many ops
(a graph). Where several calls carry one correlation, the one that started last, but not after the op, is meant.
On a host device an op *is* a stage range: its thread launched it when it began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.columns import SLICE
from ...traces.engine import primitive
from ...traces.model import Trace, distinct_values
from ..intervals import Ints, cover
from .calls import COPY, LAUNCH, POLL, classes_of, synchronous_copies
from .migrations import caused
from .polling import runs
from .stages import NO_STAGE, ORPHAN_STAGE, Stages, Thread
from .steps import NOTHING

_CAPTURE_ERRORS: Final = 900
"""cudaErrorStreamCaptureUnsupported and the next nine (CUDA Runtime API, cudaError_t): a capture that fails so has ended."""


@dataclass(frozen=True)
class Calls:
    """The API table as arrays, in order of start. `kind` is an index into `calls.CLASSES`."""

    pid: Ints
    tid: Ints
    start_ns: Ints
    end_ns: Ints
    correlation: npt.NDArray[np.uint32]
    kind: npt.NDArray[np.int8]
    synchronous: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, trace: Trace) -> Calls:
        api = trace.api
        return cls(
            pid=api["pid"].to_numpy(),
            tid=api["tid"].to_numpy(),
            start_ns=api["start_ns"].to_numpy(),
            end_ns=api["end_ns"].to_numpy(),
            correlation=api["correlation"].fill_null(0).to_numpy(),
            kind=classes_of(api["name"]),
            synchronous=synchronous_copies(api["name"]),
        )

    def __len__(self) -> int:
        return len(self.pid)

    @cached_property
    def threads(self) -> list[Thread]:
        """The threads that made calls, in order of (pid, tid)."""
        return [(p, t) for p, t in zip(*self._thread_keys[0], strict=True)]

    @cached_property
    def thread(self) -> npt.NDArray[np.integer]:
        """For each call, the position of its thread in `threads`."""
        return self._thread_keys[1]

    @cached_property
    def _thread_keys(self) -> tuple[tuple[list[int], list[int]], npt.NDArray[np.integer]]:
        distinct, which = _threads(self.pid, self.tid)
        return ((distinct >> 32).tolist(), (distinct & 0xFFFFFFFF).tolist()), which

    @cached_property
    def rows_of_thread(self) -> dict[Thread, Ints]:
        """The calls of each thread, in order of start."""
        if len(self.threads) == 1:
            return {self.threads[0]: np.arange(len(self))}
        order, bounds = grouped_rows(self.thread, len(self.threads))
        return {t: order[bounds[i] : bounds[i + 1]] for i, t in enumerate(self.threads)}

    def near(self, thread: Thread, low: int, high: int) -> Ints:
        """Those of `rows_of_thread` from the first that reaches behind `low` to the last that begins by `high`, and some beside
        them: enough to tell what the thread called in between, without a look at all of its calls."""
        rows = self.rows_of_thread[thread]
        if thread not in self._blocks:
            ends = []
            for first in range(0, len(rows), SLICE):
                some = self.end_ns[rows[first : first + SLICE]]
                ends.append(np.maximum.reduceat(some, np.arange(0, len(some), _BLOCK)))
            self._blocks[thread] = self.start_ns[rows[::_BLOCK]], np.maximum.accumulate(np.concatenate(ends))
        begins, reach = self._blocks[thread]
        first = int(np.searchsorted(reach, low, side="right"))  # no call of an earlier block lasts until `low`
        return rows[first * _BLOCK : int(np.searchsorted(begins, high, side="right")) * _BLOCK]

    @cached_property
    def polling(self) -> dict[Thread, tuple[Ints, Ints, Ints]]:
        """Of each thread that polls: start and end of its runs of queries (`polling.runs`), and the calls in them."""
        found = {}
        for thread, rows in self.rows_of_thread.items() if (self.kind == POLL).any() else ():
            start, end, inside = runs(self.start_ns[rows], self.end_ns[rows], self.kind[rows] == POLL)
            if len(start):
                found[thread] = start, end, rows[inside]
        return found

    @cached_property
    def _blocks(self) -> dict[Thread, tuple[Ints, Ints]]:
        """Of every `_BLOCK` calls of a thread: when the first begins, and the latest end of these and all before."""
        return {}


SPARSE: Final = 8
"""A table of (process, correlation) may have this many slots for each row; ids that are sparser are sorted."""

FEW: Final = 16
"""With this many calls for each op the calls of other correlation ids are put aside first."""

_BLOCK: Final = 1 << 10


@primitive
def _threads(pid: Ints, tid: Ints) -> tuple[Ints, npt.NDArray[np.integer]]:
    """(the distinct ``pid << 32 | tid``, ascending; the position of each row's among them)."""
    key = pid.astype(np.int64) << 32 | tid.astype(np.int64)
    if len(key) and (key == key[0]).all():
        return key[:1], np.zeros(len(key), np.int16)
    distinct = np.unique(key)  # a few, so that looking them up costs less than having them numbered, which sorts
    return distinct, np.searchsorted(distinct, key).astype(np.int16 if len(distinct) < 2**15 else np.int32)


@primitive
def grouped_rows(group: npt.NDArray[np.integer], groups: int) -> tuple[npt.NDArray[np.integer], Ints]:
    """(positions ordered by group, each group in its own order; where each of the groups 0..groups-1 begins, and the end).

    Positions of a negative group are left out.
    """
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(groups + 1))
    return order[bounds[0] :], bounds - bounds[0]


def launching_calls(ops: pl.DataFrame, calls: Calls) -> Ints:
    """For each op the position of its launching call, or `NOTHING`."""
    if len(calls) == 0 or len(ops) == 0:
        return np.full(len(ops), NOTHING, np.int64)
    if len(ops) * FEW > len(calls):
        return _joined(ops, calls)
    rows = _with_correlation(calls, np.unique(ops["correlation"].fill_null(0).to_numpy()))
    few = Calls(*(getattr(calls, field.name)[rows] for field in fields(calls)))
    found = _joined(ops, few) if len(few) else np.full(len(ops), NOTHING, np.int64)
    return np.where(found >= 0, np.append(rows, NOTHING)[found], NOTHING)


def _with_correlation(calls: Calls, wanted: Ints) -> npt.NDArray[np.intp]:
    """The calls that have one of the correlation ids `wanted` (distinct, ascending)."""
    low, width = int(wanted[0]), int(wanted[-1]) - int(wanted[0]) + 1
    if width > SPARSE * len(calls) + 1_000_000:
        return np.flatnonzero(np.isin(calls.correlation, wanted))
    is_wanted = np.zeros(width + 2, bool)  # the first and the last stand for all ids outside
    is_wanted[wanted - low + 1] = True
    found = []
    for first in range(0, len(calls), SLICE):
        some = calls.correlation[first : first + SLICE].astype(np.int64)
        some = np.clip(some, low - 1, low + width) - (low - 1)
        found.append(np.flatnonzero(is_wanted[some]) + first)
    return np.concatenate(found)


def _joined(ops: pl.DataFrame, calls: Calls) -> Ints:
    """`launching_calls` of calls and ops of which there are some."""
    op_pid, op_corr = ops["pid"].fill_null(NOTHING).to_numpy(), ops["correlation"].fill_null(0).to_numpy()
    low, high = int(calls.correlation.min()), int(calls.correlation.max())
    width = high - low + 1
    pids = np.array(sorted({p for p, _ in calls.threads}), np.int32)
    dense = width * len(pids) <= SPARSE * (len(calls) + len(ops)) + 1_000_000
    join = _join if dense else _join_sorted
    found, repeats = join(calls.pid, calls.correlation, op_pid, op_corr, low, width, pids)
    if repeats:
        found = _not_after(
            found, ops["start_ns"].to_numpy(), _keys(pids, calls.pid, calls.correlation, low, width), calls
        )
    return found


def _keys(pids: Ints, pid: Ints, correlation: Ints, low: int, width: int) -> Ints:
    """One number for each (process, correlation) among the sorted processes `pids` and the `width` ids from `low` on."""
    return np.searchsorted(pids, pid) * width + (correlation - low)


@primitive
def _join(
    call_pid: Ints, call_correlation: Ints, op_pid: Ints, op_correlation: Ints, low: int, width: int, pids: Ints
) -> tuple[Ints, bool]:
    """(the latest call with the process and correlation of each op, or `NOTHING`; whether any two calls share theirs), by a table
    of all pairs. The calls' correlations lie in ``[low, low + width)``, and 0 is none."""
    table = np.full(width * len(pids), NOTHING, np.int32)
    table[_keys(pids, call_pid, call_correlation, low, width)] = np.arange(len(call_pid), dtype=np.int32)
    known = _known(op_pid, op_correlation, low, width, pids)
    found = table[np.where(known, _keys(pids, op_pid, op_correlation, low, width), 0)]
    return np.where(known, found, np.int32(NOTHING)), int((table >= 0).sum()) < len(call_pid)


def _join_sorted(
    call_pid: Ints, call_correlation: Ints, op_pid: Ints, op_correlation: Ints, low: int, width: int, pids: Ints
) -> tuple[Ints, bool]:
    """`_join` of ids that are too sparse for a table."""
    call_key = _keys(pids, call_pid, call_correlation, low, width)
    known = _known(op_pid, op_correlation, low, width, pids)
    op_key = np.where(known, _keys(pids, op_pid, op_correlation, low, width), 0)
    order = np.argsort(call_key, kind="stable")
    at = np.searchsorted(call_key[order], op_key, side="right") - 1
    found = np.where(at >= 0, order[at], NOTHING)
    found = np.where(known & (found >= 0) & (call_key[found] == op_key), found, NOTHING)
    return found, len(np.unique(call_key)) < len(call_key)


def _known(pid: Ints, correlation: Ints, low: int, width: int, pids: Ints) -> npt.NDArray[np.bool_]:
    """Which ops have a process and a correlation that calls may have."""
    known: npt.NDArray[np.bool_] = pids[np.minimum(np.searchsorted(pids, pid), len(pids) - 1)] == pid
    return known & (correlation > 0) & (correlation >= low) & (correlation < low + width)


def _not_after(found: Ints, op_start: Ints, call_key: Ints, calls: Calls) -> Ints:
    """Where the latest call of a correlation starts after its op, step back to the latest one that does not."""
    late = np.flatnonzero((found >= 0) & (calls.start_ns[found] > op_start))
    if len(late) == 0:
        return found
    order = np.argsort(call_key, kind="stable")
    keys = call_key[order]
    for i in late.tolist():
        low, high = (
            np.searchsorted(keys, call_key[found[i]], side="left"),
            np.searchsorted(keys, call_key[found[i]], "right"),
        )
        same = order[low:high]
        early = same[calls.start_ns[same] <= op_start[i]]
        found[i] = early[-1] if len(early) else same[0]
    return found


@dataclass(frozen=True)
class Launches:
    """Per op: its launching call (or `NOTHING`), thread and stage code."""

    call: Ints
    thread: npt.NDArray[np.integer]  # position in `threads`, or NOTHING
    stage: Ints
    threads: list[Thread]

    def at_ns(self, rows: npt.NDArray[np.integer], ops: pl.DataFrame, calls: Calls) -> Ints:
        """When the launching calls of the ops `rows` began; on a host device, and for orphans, when the ops began."""
        return _launched_at(self.call[rows], rows, ops["start_ns"].to_numpy(), calls)


def find_launches(trace: Trace, calls: Calls, stages: Stages, host_devices: Set[int], *, across: bool) -> Launches:
    """Attribute every op of `trace` to a stage; `across` switches the cross-thread rule on."""
    ops = trace.ops
    start = ops["start_ns"].to_numpy()
    host = ops["device"].is_in(sorted(host_devices)).to_numpy()
    call = launching_calls(ops, calls)
    if host.any():
        call = np.where(host, NOTHING, call)
    threads = list(calls.threads)
    if len(calls):
        thread = np.where(call >= 0, calls.thread[call], calls.thread.dtype.type(NOTHING))
    else:
        thread = np.full(len(ops), NOTHING, np.int32)
    call, thread = caused(trace, call, thread, calls.thread if len(calls) else call, host)
    stage = np.where((call >= 0) | (thread >= 0), np.int32(NO_STAGE), np.int32(ORPHAN_STAGE))
    order, bounds = grouped_rows(thread, len(threads))
    for i, who in enumerate(threads):
        rows = order[bounds[i] : bounds[i + 1]]
        if len(rows) == 0:
            continue
        at = _launched_at(call[rows], rows, start, calls)
        own = stages.own[who](at) if who in stages.own else np.full(len(rows), NO_STAGE, np.int32)
        for others in stages.others(who) if across else ():
            if len(others.at):
                missing = own == NO_STAGE
                own[missing] = others(at[missing])
        stage[rows] = own
    if host_devices:
        _attribute_host_ops(trace, stages, host, threads, thread, stage, across)
    return Launches(call, thread, stage, threads)


def _launched_at(call: Ints, rows: npt.NDArray[np.integer], op_start: Ints, calls: Calls) -> Ints:
    """`Launches.at_ns` of the ops `rows`, which have the launching calls `call`."""
    if len(calls) == 0:
        alone: Ints = op_start[rows]
        return alone
    at: Ints = calls.start_ns[call]
    orphan = call < 0
    if orphan.any():
        at[orphan] = op_start[rows[orphan]]
    return at


def _attribute_host_ops(
    trace: Trace,
    stages: Stages,
    host: npt.NDArray[np.bool_],
    threads: list[Thread],
    thread: npt.NDArray[np.integer],
    stage: Ints,
    across: bool,
) -> None:
    """Ops of a host device belong to the range they were made of (their correlation), on its thread."""
    position = stages.position_of_range
    index = {t: i for i, t in enumerate(threads)}
    made_of = trace.ops.select("op_id", "start_ns", pl.col("correlation").cast(pl.Int64).alias("range_id")).filter(
        pl.Series(host)
    )
    table = made_of.join(trace.ranges.select("range_id", "pid", "tid"), on="range_id")
    for op, start, range_id, pid, tid in table.iter_rows():
        who = (pid, tid)
        if who not in index:
            index[who] = len(threads)
            threads.append(who)
        found = position.get(range_id)
        if found is None:
            found = int(stages.on_thread(who, across)(np.array([start]))[0])
        thread[op], stage[op] = index[who], found


def unrecorded_launches(
    calls: Calls, launched: Ints, silent: npt.NDArray[np.bool_], capturing: npt.NDArray[np.bool_]
) -> list[tuple[int, int, int, int]]:
    """(pid, launch calls and copies, those of them without any device row, and those of these after the last with one) of each
    process, leaving out the `silent` ones. A call has what one of the same correlation id has.

    `launched` are the positions of calls that have ops; `silent` marks calls that rightly have none, and `capturing` those that
    may: what lacks a row then is left out, too.
    """
    wants = ((calls.kind == LAUNCH) | (calls.kind == COPY)) & ~silent & (calls.correlation > 0)
    has = np.zeros(len(calls), bool)
    has[launched[launched >= 0]] = True
    lacks = np.flatnonzero(wants & ~has)
    if len(lacks):
        key = calls.pid.astype(np.int64) << 32 | calls.correlation.astype(np.int64)
        lacks = lacks[~np.isin(key[lacks], np.unique(key[has]))]
        wants[lacks[capturing[lacks]]] = False
        lacks = lacks[~capturing[lacks]]
    found = []
    for pid in np.unique(calls.pid[wants]).tolist():
        of, missing = calls.pid == pid, lacks[calls.pid[lacks] == pid]
        recorded = calls.start_ns[has & of]
        pending = int((calls.start_ns[missing] > recorded.max()).sum()) if len(recorded) else 0
        found.append((pid, int((wants & of).sum()), len(missing), pending))
    return found


def silent_calls(trace: Trace, calls: Calls) -> npt.NDArray[np.bool_]:
    """Calls that may rightly have no device row: they failed, they made a node of a graph or their thread was capturing a stream
    into one, or they set memory (of no bytes, as cuBLAS does: such calls return in 0.2 us, ten times as fast as one that
    launches)."""
    out: npt.NDArray[np.bool_] = trace.api["result"].fill_null(0).to_numpy() != 0
    for (pid, tid), nodes in trace.graph_nodes.group_by("pid", "tid"):
        made, rows = np.sort(nodes["time_ns"].to_numpy()), calls.rows_of_thread.get((pid, tid), np.empty(0, np.int64))
        until = np.searchsorted(made, calls.end_ns[rows], side="right")
        out[rows] |= np.searchsorted(made, calls.start_ns[rows]) < until
    sets, name = _rows_by_name(trace, lambda word: "memset" in word.lower())
    out |= sets[name] > 0
    for rows, open_, _ in _captures(trace, calls):
        out[rows] |= open_
    return out


_EVER = 1 << 62
"""An instant after every recording; its negative is before every one."""


def capturing_calls(trace: Trace, calls: Calls) -> npt.NDArray[np.bool_]:
    """Calls made while any thread of their process captured a stream: autograd's thread launches into the capture of another."""
    spans: dict[int, list[Ints]] = {}
    for rows, open_, from_start in _captures(trace, calls):
        change = np.flatnonzero(np.diff(np.r_[False, from_start, open_, False]))
        instants = np.r_[-_EVER, calls.start_ns[rows], _EVER]
        spans.setdefault(int(calls.pid[rows[0]]), []).append(instants[change].reshape(-1, 2))
    out = np.zeros(len(calls), bool)
    for pid, of in spans.items():
        times = np.concatenate(of)
        found = cover(*np.ascontiguousarray(times[np.argsort(times[:, 0])].T))
        rows = np.flatnonzero(calls.pid == pid)
        last = np.searchsorted(found.start, calls.start_ns[rows], side="right") - 1
        out[rows] = (last >= 0) & (calls.start_ns[rows] < found.end[last])
    return out


def _captures(trace: Trace, calls: Calls) -> Iterator[tuple[Ints, npt.NDArray[np.bool_], bool]]:
    """Of each thread that captured a stream its calls, during which of them a capture was open, and whether one was when the
    recording began: it ends without having begun."""
    step, name = _rows_by_name(trace, lambda word: ("StreamBeginCapture" in word) - ("StreamEndCapture" in word))
    if not step.any():
        return
    result = trace.api["result"].fill_null(0).to_numpy()
    did = (result == 0) | ((step[name] < 0) & (result >= _CAPTURE_ERRORS) & (result < _CAPTURE_ERRORS + 10))
    step = np.where(did, step[name], 0)
    for rows in calls.rows_of_thread.values():
        if step[rows].any():
            many = np.cumsum(step[rows])
            least = min(int(many.min()), 0)
            yield rows, many > least, least < 0


def _rows_by_name(trace: Trace, value: Callable[[str], int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.integer]]:
    """(`value` of each distinct name of a call, and of each call the position of its name among these)."""
    words = [*distinct_values(trace.api["name"]), ""]  # the last stands for null
    name = trace.api["name"].to_physical().fill_null(len(words) - 1).to_numpy()
    return np.array([value(word) for word in words], np.int32), name
