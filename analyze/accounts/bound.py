"""How near an iteration comes to the time its busiest kind of work alone would take.

    h2d       |--1--|--2--|                 the bound of this iteration is its compute, 3; it took 5
    compute         |---1---|-2-|
    d2h                     |1|

Work of one kind uses one engine or link, so that no arrangement of the same operations is done before the busiest of
them: a pipeline that overlaps perfectly takes max over kinds of the union of their operations. It bounds arrangements
only, not kernels or copies that would be faster, and operations that slow each other down raise it.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..result import Analysis


@dataclass(frozen=True, slots=True)
class Bound:
    """Medians over the iterations in which `device` did anything; `ratio` is that of measured time to bound.

    `kind` is the kind that is busiest in most iterations; `measured_ns` the iteration's range, recorder and all.
    """

    device: int
    iterations: int
    kind: str
    bound_ns: int
    measured_ns: int
    ratio: float


def bounds(analysis: Analysis) -> list[Bound]:
    """One for every device that worked in iterations; none without iterations or without their details.

    Iterations with a graph launch that was recorded whole are left out: its time holds gaps and copies too.
    """
    out = []
    for (device,), rows in _busiest(analysis).group_by("device", maintain_order=True):
        kind = rows["kind"].value_counts().sort("count", "kind", descending=[True, False])["kind"][0]
        ratio = (rows["length_ns"] / rows["union_ns"]).median()
        bound, measured = (rows[name].quantile(0.5, "lower") for name in ("union_ns", "length_ns"))
        assert isinstance(ratio, float) and bound is not None and measured is not None
        out.append(Bound(int(str(device)), len(rows), str(kind), int(bound), int(measured), ratio))
    return out


def mean_bound(analysis: Analysis, device: int, kind: str) -> tuple[float, float]:
    """(union of `kind`, measured time) of an iteration of `device` on average, over those that `bounds` looks at."""
    rows = _busiest(analysis).filter(pl.col("device") == device).select("iteration", "length_ns")
    unions = analysis.iteration_kinds.filter((pl.col("device") == device) & (pl.col("kind") == kind))
    union = unions.join(rows, on="iteration", how="semi")["union_ns"].sum()
    return int(union) / len(rows), int(rows["length_ns"].sum()) / len(rows)


def _busiest(analysis: Analysis) -> pl.DataFrame:
    """The busiest kind of each device and iteration, and the iteration's length."""
    opaque = (pl.col("kind").cast(pl.String) == "graph").any().over("device", "iteration")
    return (
        analysis.iteration_kinds.filter(~opaque)
        .filter(pl.col("union_ns") > 0)
        .with_columns(pl.col("kind").cast(pl.String))
        .sort("device", "iteration", "union_ns", "kind", descending=[False, False, True, False])
        .group_by("device", "iteration", maintain_order=True)
        .first()
        .join(
            analysis.iterations.select("iteration", (pl.col("end_ns") - pl.col("start_ns")).alias("length_ns")),
            on="iteration",
        )
    )
