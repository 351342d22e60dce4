"""What the stage table shows of CUDA graphs, in words: work counts for the stage it was captured in, not for the one that
replays it (``accounts/replays.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from ..analyze.result import Analysis
from ..analyze.words import duration, shorten

WIDTH: Final = 52
"""Columns for a stage in these sentences: a path may be megabytes long."""

NAMED: Final = 4
"""Stages that are named of what a stage replays."""

REPLAYING: Final = 4
"""Stages that replay and have a sentence."""


def path_doubt(analysis: Analysis) -> str:
    """Why the critical path says little, where graphs launch most of the work; else empty."""
    ops, every = int(analysis.replays["ops"].sum()), int(analysis.kinds["ops"].sum())
    if 2 * ops < every or not ops:
        return ""
    return "what waits for what inside a CUDA graph is not recorded, so of its work the path is one of several that fit"


def replay_sentences(analysis: Analysis) -> Iterator[str]:
    """How much CUDA graphs launch and from where; then a sentence for each stage that replays what other stages captured, the one
    that replays most first: where the work is counted, and what that means for the rows of both."""
    yield from _launched(analysis)
    table = analysis.replays.filter(pl.col("stage") != pl.col("replayed_in"))
    summed = table.group_by("replayed_in").agg(pl.col("sum_ns").sum(), pl.col("ops").sum())
    ranked = summed.sort("sum_ns", "replayed_in", descending=[True, False])
    for replaying, ns, ops in ranked.head(REPLAYING).rows():
        captured = table.filter(pl.col("replayed_in") == replaying).group_by("stage").agg(pl.col("sum_ns").sum())
        rows = captured.sort("sum_ns", "stage", descending=[True, False]).rows()
        yield _sentence(analysis, replaying, ops, ns, rows)
    if (more := len(ranked) - REPLAYING) > 0:
        yield f"{more:,} more stage{' replays' if more == 1 else 's replay'} what others captured; --json has all"


def _launched(analysis: Analysis) -> Iterator[str]:
    table = analysis.replays
    if table.is_empty():
        return
    each = table.group_by("replayed_in").agg(pl.col("ops").sum()).sort("ops", "replayed_in", descending=[True, False])
    told = [f"{ops:,} in {shorten(stage, WIDTH)}" for stage, ops in each.head(NAMED).rows()]
    more = f" and {len(each) - NAMED} more stages" if len(each) > NAMED else ""
    every, busy = int(analysis.kinds["ops"].sum()), int(analysis.kinds["sum_ns"].sum())
    yield (
        f"CUDA graphs launch {int(table['ops'].sum()):,} of {every:,} operations, {duration(int(table['sum_ns'].sum()))} of "
        f"{duration(busy)} of device work: {', '.join(told)}{more}"
    )


def _sentence(analysis: Analysis, replaying: str, ops: int, ns: int, rows: list[tuple[Any, ...]]) -> str:
    told = [f"{shorten(stage, WIDTH)} {duration(sum_ns)}" for stage, sum_ns in rows[:NAMED]]
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    who = shorten(replaying, WIDTH)
    has = "single operation counts" if ops == 1 else f"{ops:,} operations count"
    own = int(analysis.stages.filter((pl.col("path") == replaying) & pl.col("device").is_not_null())["ops"].sum())
    means = "shows what else it did" if own else "shows no work"
    stages = analysis.stages.filter(pl.col("path").is_in([stage for stage, _ in rows]))
    outside = (
        ""
        if int(stages["host_ns"].sum())
        else ", and those of the captures, which lie outside this window, no host time"
    )
    return (
        f"CUDA graphs replayed in {who}: their {has} for the stages that captured them ({', '.join(told)}{more}), so the row of "
        f"{who} {means}{outside}"
    )
