"""The ranks of one trace, each as its `Rank`: its device's ledger by iteration, its collectives, and when these were exposed.

A rank is a device that worked in the window. The cost is that of a ledger, and independent of how many ranks the job has.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

import numpy as np
import polars as pl

from ...traces.model import KINDS, Trace
from ..accounts.communication import SPLIT
from ..accounts.iterations import iteration_table
from ..accounts.ledger_tables import interrupted_gaps, ledger_tables
from ..attribution.attribute import Attributed, attribute
from ..attribution.dependencies import awaited
from ..attribution.lanes import lanes_of
from ..attribution.selection import Selection
from ..attribution.steady import Seeking
from ..attribution.window_ops import Rows
from ..intervals import Cover, Ints, cover, owned_from, union
from .look import Look
from .rank import ON_HOST, TABLES, Rank, identities, rank_in_name

MOST_STAGES: Final = 200
"""Stages of a rank that are kept by name, the costliest ones: a heat map of more is not read, and a partial stays small."""

_COMM: Final = KINDS.index("comm")


def ranks_of(
    trace: Trace, look: Look, clock: str, path: str | None = None, of_run: tuple[int, int] | None = None
) -> list[Rank]:
    """The ranks in `trace`, whose clock is called `clock`; none where no device worked. `path` is where it lies, whose names may
    say which rank it is; `of_run` which of how many ranks the run it is of recorded.

    Raises `UsageError` as `analyze` does.
    """
    a = attribute(
        trace,
        domain=look.domain,
        selection=None if (look.stages, look.depth) == (None, None) else Selection(look.stages, look.depth, None),
        most=MOST_STAGES,
        seeking=Seeking(look.iterations, look.skip, as_window=True),
    )
    waits = awaited(trace, a.calls, a.launches, lanes_of(a.ops))
    return ranks_in(a, ledger_tables(a, waits, interrupted_gaps(a), 0)["ledger"], clock, path, of_run)


def ranks_in(
    a: Attributed, ledger: pl.DataFrame, clock: str, path: str | None = None, of_run: tuple[int, int] | None = None
) -> list[Rank]:
    """The ranks of an attributed trace, whose `ledger` is known."""
    trace = a.trace
    spans = [span for span in a.spans if (a.in_window.device == span.device).any()]
    names = identities(trace, [span.device for span in spans], path or trace.meta.file, of_run)
    steps = iteration_table(a.found, a.steady if a.is_steady else None, a.limits)
    steps = steps.select("iteration", "start_ns", "end_ns")
    whole = (
        pl.col("start_ns") + (pl.col("end_ns") - pl.col("start_ns")) // 2
    )  # the window may cut slivers of neighbours
    low, high = a.limits
    notes = () if len(steps) else ("no iterations were found, so the whole window counts as one",)
    rows_of = {span.device: rows for span, rows in a.in_window.devices()}
    made = []
    for part, (span, identity) in enumerate(zip(spans, names, strict=True)):
        own = _own_steps(a, steps, span.device).filter((whole >= low) & (whole < high))
        nobody = ON_HOST if span.device in a.host_devices else ""
        collectives, exposed = _communication(a, rows_of[span.device], nobody)
        number = pl.when(pl.col("iteration").is_in(own["iteration"].to_list())).then("iteration").otherwise(-1)
        if len(own) == 0:
            own, number = _one(span.start_ns, span.end_ns), pl.lit(0)
        cells = ledger.filter(pl.col("device") == span.device).with_columns(number.alias("iteration"))
        tables = {
            "iterations": own,
            "ledger": cells.group_by("iteration", "stage", "category", "cause", maintain_order=True).agg(
                pl.col("ns").sum()
            ),
            "collectives": collectives.with_columns(number.alias("iteration")),
            "exposed": exposed,
        }
        made.append(
            Rank(
                identity=identity,
                trace=_shown(path) if path else trace.meta.file,
                recorder=trace.meta.recorder,
                clock=clock,
                part=part,
                parts=len(spans),
                window=(span.start_ns, span.end_ns),
                found_by=None if a.steady is None or not a.is_steady else a.steady.found_by,
                warm_up=0 if a.steady is None or not a.is_steady else a.steady.warm_up,
                notes=notes,
                tables={n: tables[n].select(*TABLES[n]).cast(pl.Schema(TABLES[n])) for n in TABLES},
            )
        )
    return made


def _shown(path: str) -> str:
    """A trace as a reader knows it: its name, after the folder that says its rank where the name does not."""
    file = PurePath(path)
    above = [part for part in file.parts[-4:-1] if rank_in_name(part) is not None]
    return file.name if rank_in_name(file.name) is not None or not above else f"{above[-1]}/{file.name}"


def _one(start: int, end: int) -> pl.DataFrame:
    return pl.DataFrame({"iteration": [0], "start_ns": [start], "end_ns": [end]})


def _own_steps(a: Attributed, steps: pl.DataFrame, device: int) -> pl.DataFrame:
    """`steps` with the times of the process that drives `device`, where it has iterations of its own."""
    pids = a.trace.ops.filter(pl.col("device") == device)["pid"].drop_nulls().unique().to_list()
    found = a.found
    if len(steps) == 0 or len(pids) != 1 or pids[0] not in found.iteration_of:
        return steps
    rows = np.flatnonzero((found.pid == pids[0]) & (found.start_ns < a.limits[1]) & (found.end_ns > a.limits[0]))
    rows = np.intersect1d(rows, found.named("iteration"))
    if len(rows) == 0:
        return steps
    start, end = found.start_ns[rows], found.end_ns[rows]
    return pl.DataFrame({"iteration": found.iteration_of[pids[0]](start), "start_ns": start, "end_ns": end})


def _communication(a: Attributed, rows: Rows, nobody: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tables ``collectives`` and ``exposed`` of the window's ops `rows`, which are those of one device; `nobody`:
    the group where nothing says it."""
    ops = a.in_window
    comm = rows[ops.kind[rows] == _COMM]
    table = ops.table[comm].select(
        "stream", "start_ns", "end_ns", pl.col("name").cast(pl.String).fill_null(""), "device"
    )
    paths = ops.stages.path_names
    table = table.with_columns(
        pl.Series("iteration", ops.iteration[comm], pl.Int32),
        pl.Series("stage", [paths[p] for p in ops.path[comm]], pl.String),
    )
    known = a.trace.comms.with_columns(pl.col("collective", "process_group", "ranks").cast(pl.String))
    recorded = a.trace.ops[ops.in_trace(comm)]["start_ns"]  # the window may cut an op
    key = ["device", "stream", "recorded"]
    table = table.with_columns(recorded.alias("recorded")).join(
        known.rename({"start_ns": "recorded"}).unique(key), on=key, how="left", maintain_order="left"
    )
    group = pl.coalesce(
        pl.format("ranks {}", "ranks"),
        pl.format("group {} of {}", "process_group", pl.col("group_size").fill_null(0)),
        pl.lit(nobody),
    )
    what = pl.coalesce("collective", pl.col("name").str.extract(SPLIT.pattern, 0), "name")
    table = table.with_columns(group.alias("group"), what.alias("what"))
    table = table.with_columns(pl.col("what").str.contains(SPLIT.pattern).alias("split"))
    return table, _exposed(ops.kind[rows], ops.start[rows], ops.end[rows])


def _exposed(kind: Ints, start: Ints, end: Ints) -> pl.DataFrame:
    """Table ``exposed`` of one device's ops, sorted by start: each instant is that of the earliest collective still running."""
    above = Cover(start[:0], start[:0])
    for priority in range(_COMM):
        mine = kind == priority
        above = union(above, cover(start[mine], end[mine]))
    comm = np.flatnonzero(kind == _COMM)
    begin, stop = owned_from(start[comm], end[comm]), end[comm]
    owner = np.flatnonzero(stop > begin)
    begin, stop = begin[owner], stop[owner]
    # What `above` leaves of each piece: its members that touch the piece cut it, in order.
    first = np.searchsorted(above.end, begin, side="right")
    last = np.searchsorted(above.start, stop, side="left")
    many = np.maximum(last - first, 0) + 1
    of = np.repeat(np.arange(len(owner)), many)
    nth = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
    low, high = begin[of], stop[of]
    if len(above.start):
        before = np.minimum(first[of] + nth - 1, len(above.start) - 1)
        after = np.minimum(first[of] + nth, len(above.start) - 1)
        low = np.where(nth > 0, above.end[np.maximum(before, 0)], low)
        high = np.where(nth < many[of] - 1, above.start[after], high)
    low, high = np.maximum(low, begin[of]), np.minimum(high, stop[of])
    keep = high > low
    return pl.DataFrame(
        {"collective": owner[of][keep], "start_ns": low[keep], "end_ns": high[keep]}, schema=TABLES["exposed"]
    )
