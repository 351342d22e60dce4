"""What a device waited for on another one: stream waits, the events they name, and the work that those events ended.

    device 1   |----- producer ------|
    stream s                         ^ event recorded after it                      (cudaEventRecord)
    device 0   |--|..................|...|-- X --|      X's stream was told to wait for the event (cudaStreamWaitEvent)
               gap starts                ^
                    dependency       queued

The event is done when everything that had been launched to its stream before the record has ended. A stream is (process,
context, stream): contexts are numbered within a process, and the device in CUPTI's rows of synchronisations is not to be
relied on (in recordings of two GPUs it is 0 for both). Only waits on another *device* are told: on the same device the
producer would have kept it busy. A record is named by (process, event id, sync id); ids that name several tell nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from ..traces.model import Trace, distinct_values
from .intervals import Ints
from .launches import Calls, Launches
from .work import LANE, Lane

STREAM = ("pid", "context", "stream")
_PLACE = ("pid", "device", "context", "stream")
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


def awaited(trace: Trace, calls: Calls, launches: Launches, lanes: Sequence[Lane]) -> Awaited | None:
    """The waits of `trace` for work of other devices; null where none is recorded. `lanes` are all streams that had work."""
    if trace.events.is_empty() or trace.syncs.is_empty():
        return None
    recorded = _called(trace.events, trace, ("EventRecord",), "recorded_ns").filter(pl.len().over(_EVENT) == 1)
    waits = _called(trace.syncs.drop_nulls(["event_id", "event_sync_id"]), trace, ("StreamWaitEvent",), "asked_ns")
    streams = pl.DataFrame(lanes, schema={name: trace.ops.schema[name] for name in LANE}, orient="row")
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
    ended = _done(trace, calls, launches, needed).select(*_EVENT, "done_ns")
    found = pairs.join(ended, on=_EVENT).sort("done_ns")
    if found.is_empty():
        return None
    return Awaited(
        stream=found.select(STREAM),
        device=found["device"].to_numpy(),
        asked_ns=found["asked_ns"].to_numpy(),
        done_ns=found["done_ns"].to_numpy(),
    )


def _called(rows: pl.DataFrame, trace: Trace, words: tuple[str, ...], name: str) -> pl.DataFrame:
    """`rows` with the start of the one call of that correlation whose name holds one of `words`; others are dropped."""
    chosen = [value for value in distinct_values(trace.api["name"]) if any(word in value for word in words)]
    calls = trace.api.filter(pl.col("name").is_in(chosen)).select("pid", "correlation", pl.col("start_ns").alias(name))
    once = calls.filter(pl.len().over("pid", "correlation") == 1)
    return rows.join(once, on=["pid", "correlation"])


def _done(trace: Trace, calls: Calls, launches: Launches, recorded: pl.DataFrame) -> pl.DataFrame:
    """(`_EVENT`, recorded_ns, device, done_ns) of each record: when what was launched to its stream before had ended."""
    ops = trace.ops.select(*_PLACE, "end_ns", pl.Series("call", launches.call))
    work = ops.filter(pl.col("call") >= 0).join(recorded.select(_PLACE).unique(), on=_PLACE, how="semi")
    work = (
        work.with_columns(pl.Series("launched_ns", calls.start_ns[work["call"].to_numpy()]))
        .drop_nulls(_PLACE)
        .sort("launched_ns", maintain_order=True)
        .with_columns(pl.col("end_ns").cum_max().over(_PLACE).alias("done_ns"))
    )
    return (
        recorded.select(*_EVENT, "device", "context", "stream", "recorded_ns")
        .drop_nulls()
        .sort("recorded_ns")
        .join_asof(
            work.select(*_PLACE, "launched_ns", "done_ns"),
            left_on="recorded_ns",
            right_on="launched_ns",
            by=list(_PLACE),
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .drop_nulls("done_ns")
        .select(*_EVENT, "recorded_ns", "device", "done_ns")
    )
