"""What a device waited for on another one: stream waits, the events they name, and the work that those events ended.

    device 1   |----- producer ------|
    stream s                         ^ event recorded after it                      (cudaEventRecord)
    device 0   |--|..................|...|-- X --|      X's stream was told to wait for the event (cudaStreamWaitEvent)
               gap starts                ^
                    dependency       queued

The event is done when everything that had been launched to its stream before the record has ended. A stream is (process,
context, stream): contexts are numbered within a process, and the device in CUPTI's rows of synchronisations is not to be
relied on (in recordings of two GPUs it is 0 for both). Only waits on another *device* count: on the same device the
producer would have kept it busy. A record is named by (process, event id, sync id); ids that name several tell nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import Trace, distinct_values
from ..intervals import Ints
from .lanes import LANE, Lanes
from .launches import Calls, Launches, grouped_rows
from .window_ops import groups

STREAM = ("pid", "context", "stream")
_EVENT = ("pid", "event_id", "event_sync_id")


@dataclass(frozen=True)
class Awaited:
    """Waits of streams for work of other devices, sorted by `done_ns`, when that work had ended. `asked_ns`: when the wait was
    called; `device`: where the work ran."""

    stream: pl.DataFrame  # pid, context, stream of the waiting stream
    device: Ints
    asked_ns: Ints
    done_ns: Ints

    def until(
        self, ops: pl.DataFrame, device: int, called_ns: Ints, gap_start: Ints, gap_end: Ints
    ) -> npt.NDArray[np.int64]:
        """For each gap of `device`: the instant in ``(gap_start, gap_end]`` at which the last awaited work of another device
        ended, or `gap_start` if none did.

        Gaps are disjoint and in order of time. `ops` are the ops that end them (one row each, `STREAM` columns), `called_ns`
        when each was launched: only waits that were called before count.
        """
        out = gap_start.astype(np.int64)
        if len(out) == 0 or len(self.done_ns) == 0:
            return out
        gap = np.searchsorted(gap_start, self.done_ns, side="left") - 1  # the last gap that starts before
        fits = (gap >= 0) & (self.device != device)
        gap = np.maximum(gap, 0)
        fits &= (self.done_ns <= gap_end[gap]) & (self.asked_ns <= called_ns[gap])
        for name in STREAM:
            mine, waiting = ops[name].to_numpy(), self.stream[name].to_numpy()
            fits &= mine[gap] == waiting
        np.maximum.at(out, gap[fits], self.done_ns[fits])
        return out


def awaited(trace: Trace, calls: Calls, launches: Launches, lanes: Lanes) -> Awaited | None:
    """The waits of `trace` for work of other devices; null where none is recorded. `lanes` are the streams of its ops."""
    if trace.events.is_empty() or trace.syncs.is_empty():
        return None
    recorded = calls_of(trace.events, trace, ("EventRecord",), "recorded_ns").filter(pl.len().over(_EVENT) == 1)
    waits = calls_of(trace.syncs.drop_nulls(["event_id", "event_sync_id"]), trace, ("StreamWaitEvent",), "asked_ns")
    streams = pl.DataFrame(lanes.known, schema={name: trace.ops.schema[name] for name in LANE}, orient="row")
    pairs = (
        waits.select(*STREAM, "event_id", "event_sync_id", "asked_ns")
        .drop_nulls(STREAM)
        .join(recorded.select(*_EVENT, "device", "recorded_ns"), on=_EVENT)
        .filter(pl.col("recorded_ns") <= pl.col("asked_ns"))
        .join(streams.rename({"device": "waiting"}), on=STREAM)
        .filter(pl.col("waiting") != pl.col("device"))
        .drop("waiting")
        .unique()
    )
    needed = recorded.join(pairs.select(_EVENT).unique(), on=_EVENT, how="semi")
    if needed.is_empty():
        return None
    found = pairs.join(_done(trace, calls, launches, lanes, streams, needed), on=_EVENT).sort("done_ns")
    if found.is_empty():
        return None
    return Awaited(
        stream=found.select(STREAM),
        device=found["device"].to_numpy(),
        asked_ns=found["asked_ns"].to_numpy(),
        done_ns=found["done_ns"].to_numpy(),
    )


def calls_of(rows: pl.DataFrame, trace: Trace, words: tuple[str, ...], name: str) -> pl.DataFrame:
    """`rows` with the start of the one call of that correlation whose name holds one of `words`; others are dropped."""
    names = trace.api["name"]
    chosen = [any(word in value for word in words) for value in distinct_values(names)]
    called = np.flatnonzero(np.array([*chosen, False])[names.to_physical().fill_null(len(chosen)).to_numpy()])
    calls = trace.api.select("pid", "correlation", pl.col("start_ns").alias(name))[called]
    once = calls.filter(pl.len().over("pid", "correlation") == 1)
    return rows.join(once, on=["pid", "correlation"])


def _done(
    trace: Trace,
    calls: Calls,
    launches: Launches,
    lanes: Lanes,
    streams: pl.DataFrame,
    recorded: pl.DataFrame,
) -> pl.DataFrame:
    """(`_EVENT`, done_ns) of each record: when what was launched to its stream before had ended."""
    numbered = streams.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("lane"))
    records = (
        recorded.select(*_EVENT, "device", "context", "stream", "recorded_ns")
        .drop_nulls()
        .join(numbered, on=LANE)
        .sort("lane")
    )
    number, at = records["lane"].to_numpy(), records["recorded_ns"].to_numpy()
    order, bounds = grouped_rows(lanes.of, len(streams))
    end = trace.ops["end_ns"].to_numpy()
    done: list[int | None] = []
    for one, mine in groups(number):
        rows = order[bounds[one] : bounds[one + 1]]
        rows = rows[launches.call[rows] >= 0]
        launched = calls.start_ns[launches.call[rows]]
        if (launched[1:] < launched[:-1]).any():
            later = np.argsort(launched, kind="stable")
            rows, launched = rows[later], launched[later]
        reach = np.maximum.accumulate(end[rows])
        before = np.searchsorted(launched, at[mine], side="left") - 1
        done += [int(reach[i]) if i >= 0 else None for i in before.tolist()]
    return records.select(*_EVENT, pl.Series("done_ns", done, dtype=pl.Int64)).drop_nulls("done_ns")
