"""Stages projected onto the devices their work ran on.

A stage instance (one range) projects onto a device as ``[start of its first op, end of its last op)``. Figures of a path
include the ops of nested stages; ``self_ops`` does not. Each op is counted once for its innermost stage and rolled up the
tree of ranges from there, so that the cost is that of the ranges, not of ops times depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType

import numpy as np
import numpy.typing as npt
import polars as pl

from ..traces.model import KIND_TYPE, KINDS
from .acceleration import accelerated
from .intervals import Ints, grouped_measure, measure
from .result import SCHEMAS
from .stages import Stages
from .steps import NOTHING


def per_instance(ops: pl.DataFrame, stages: Stages, parts: Mapping[int, pl.DataFrame] | None = None) -> pl.DataFrame:
    """(device, stage, ops, first_ns, last_ns, self_ops): every range that ops belong to, nested ops included but in `self_ops`.

    `ops` has columns device, stage (code), start_ns, end_ns; rows with a negative stage are ignored.
    """
    fast = accelerated(len(ops))
    if fast is not None and len(ops):
        return pl.concat(_instances(fast, d, part, stages) for d, part in (parts or dict(by_device(ops))).items())
    own = (
        ops.filter(pl.col("stage") >= 0)
        .with_columns(pl.col("stage").cast(pl.Int64))
        .group_by("device", "stage")
        .agg(
            pl.len().cast(pl.Int64).alias("ops"),
            pl.col("start_ns").min().alias("first_ns"),
            pl.col("end_ns").max().alias("last_ns"),
            pl.len().cast(pl.Int64).alias("self_ops"),
        )
    )
    parent = pl.DataFrame({"stage": np.arange(len(stages)), "parent": stages.parent})
    found = [own]
    level = own
    while len(level):
        level = (
            level.join(parent, on="stage")
            .filter(pl.col("parent") != NOTHING)
            .group_by("device", pl.col("parent").alias("stage"))
            .agg(pl.col("ops").sum(), pl.col("first_ns").min(), pl.col("last_ns").max())
            .with_columns(pl.lit(0, pl.Int64).alias("self_ops"))
            .select(own.columns)
        )
        found.append(level)
    return (
        pl.concat(found)
        .group_by("device", "stage")
        .agg(pl.col("ops").sum(), pl.col("first_ns").min(), pl.col("last_ns").max(), pl.col("self_ops").sum())
    )


def _instances(fast: ModuleType, device: int, ops: pl.DataFrame, stages: Stages) -> pl.DataFrame:
    parent = stages.parent.astype(np.int32)
    stage, start, end = ops["stage"].to_numpy(), ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    count, first, last, own = fast.project(stage.astype(np.int32, copy=False), start, end, parent)
    used = np.flatnonzero(count)
    return pl.DataFrame(
        {
            "device": pl.repeat(device, len(used), dtype=pl.Int32, eager=True),
            "stage": used,
            "ops": count[used],
            "first_ns": first[used],
            "last_ns": last[used],
            "self_ops": own[used],
        }
    )


def kind_codes(ops: pl.DataFrame) -> npt.NDArray[np.int8]:
    """The kind of each op as a position in `KINDS`."""
    return np.asarray(ops["kind"].to_physical().to_numpy().astype(np.int8))


def by_device(ops: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """The ops of each device, in their order. One device's are not copied."""
    device = ops["device"]
    if len(ops) and device.min() == device.max():
        yield int(device[0]), ops
        return
    for d in device.unique().sort().to_list():
        yield d, ops.filter(pl.col("device") == d)


def stage_kinds(ops: pl.DataFrame, stages: Stages, parts: Mapping[int, pl.DataFrame] | None = None) -> pl.DataFrame:
    """Table ``stage_kinds``, and per (device, path) the union of all its ops (rows with a null kind).

    `ops` has columns device, stage, kind, start_ns, end_ns, nbytes and is sorted by start; times are already clipped. `parts` are
    the ops of each device, where they are at hand.
    """
    fast = accelerated(len(ops))
    if fast is not None:
        return pl.concat(
            [
                pl.DataFrame(schema=SCHEMAS["stage_kinds"]),
                *(_kinds(fast, d, o, stages) for d, o in (parts or dict(by_device(ops))).items()),
            ]
        ).sort("path", "device", maintain_order=True)
    mine = ops.filter(pl.col("stage") >= 0)
    if len(mine) == 0:
        return pl.DataFrame(schema=SCHEMAS["stage_kinds"])
    stage = mine["stage"].to_numpy()
    node = stages.node[stage]
    kind = mine["kind"].to_physical().to_numpy().astype(np.int64)
    device = mine["device"].to_numpy().astype(np.int64)
    start, end = mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy()
    nbytes = mine["nbytes"].fill_null(0).to_numpy()
    rows = []
    for above, below in sorted(stages.nodes_below.items()):
        chosen = np.flatnonzero(np.isin(node, below))
        for d in np.unique(device[chosen]).tolist():
            here = chosen[device[chosen] == d]
            k, s, e = kind[here], start[here], end[here]
            counts = np.bincount(k, minlength=len(KINDS))
            unions = grouped_measure(k, s, e, len(KINDS))
            for code in np.flatnonzero(counts).tolist():
                of = k == code
                rows.append(
                    {
                        "device": d,
                        "path": stages.paths[above],
                        "kind": KINDS[code],
                        "ops": int(counts[code]),
                        "sum_ns": int((e[of] - s[of]).sum()),
                        "union_ns": int(unions[code]),
                        "nbytes": int(nbytes[here][of].sum()),
                    }
                )
            rows.append(
                {
                    "device": d,
                    "path": stages.paths[above],
                    "kind": None,
                    "ops": len(here),
                    "sum_ns": int((e - s).sum()),
                    "union_ns": measure(s, e),
                    "nbytes": int(nbytes[here].sum()),
                }
            )
    return pl.DataFrame(rows, schema=SCHEMAS["stage_kinds"])


def _kinds(fast: ModuleType, device: int, ops: pl.DataFrame, stages: Stages) -> pl.DataFrame:
    node = stages.node_of(ops["stage"].to_numpy())
    above = [sorted(paths) for paths in stages.paths_above]
    first = np.cumsum([0, *map(len, above)])
    width = len(KINDS) + 1
    figures = fast.by_path(
        kind_codes(ops),
        node,
        ops["start_ns"].to_numpy(),
        ops["end_ns"].to_numpy(),
        ops["nbytes"].fill_null(0).to_numpy(),
        first.astype(np.int32),
        np.array([p for paths in above for p in paths], np.int32),
        len(stages.paths),
        len(KINDS),
    )
    count, total, nbytes, union = figures
    used = np.flatnonzero(count)
    return pl.DataFrame(
        {
            "device": pl.repeat(device, len(used), dtype=pl.Int32, eager=True),
            "path": pl.Series([stages.paths[i] for i in (used // width).tolist()], dtype=pl.String),
            "kind": pl.Series([(*KINDS, None)[i] for i in (used % width).tolist()], dtype=KIND_TYPE),
            "ops": count[used],
            "sum_ns": total[used],
            "union_ns": union[used],
            "nbytes": nbytes[used],
        },
        schema=SCHEMAS["stage_kinds"],
    )


def stage_table(
    stages: Stages,
    shown: Ints,
    unions: pl.DataFrame,
    instances: pl.DataFrame,
    payload: pl.DataFrame,
    low: int | None,
    high: int | None,
) -> pl.DataFrame:
    """Table ``stages``: the stages `shown` (positions) by path and device; paths without ops have a null device.

    `unions` are the rows of `stage_kinds` with a null kind, `instances` what `per_instance` says, `payload` the bytes that
    ranges carry (range_id, nbytes); ``host_ns`` counts only what lies in ``[low, high)`` if given.
    """
    start, end = stages.start_ns[shown], stages.end_ns[shown]
    if low is not None and high is not None:
        start, end = np.clip(start, low, high), np.clip(end, low, high)
    host = (
        pl.DataFrame({"path_id": stages.path_id[shown], "host_ns": end - start})
        .group_by("path_id")
        .agg(pl.len().cast(pl.Int64).alias("instances"), pl.col("host_ns").sum())
    )
    if len(payload):  # few traces have any
        said = pl.DataFrame({"path_id": stages.path_id[shown], "range_id": stages.range_id[shown]})
        said = said.join(payload, on="range_id").group_by("path_id").agg(pl.col("nbytes").sum().alias("payload_bytes"))
        host = host.join(said, on="path_id", how="left")
    else:
        host = host.with_columns(pl.lit(None, pl.Int64).alias("payload_bytes"))
    chosen = np.zeros(len(stages), bool)
    chosen[shown] = True
    instances = instances.with_columns(
        pl.Series("path_id", stages.path_id[instances["stage"].to_numpy()], dtype=pl.Int64),
        pl.Series("shown", chosen[instances["stage"].to_numpy()], dtype=pl.Boolean),
        (pl.col("last_ns") - pl.col("first_ns")).alias("projected_ns"),
    )
    by_path = instances.group_by("device", "path_id")
    own = by_path.agg(pl.col("self_ops").sum())  # also of ranges that are not listed, such as `measured` within a stage
    device = by_path.agg(pl.col("projected_ns", "ops").filter("shown").sum(), pl.col("shown").any())
    device = device.filter("shown").drop("shown")
    names = pl.DataFrame(
        {"path_id": np.arange(len(stages.paths)), "path": pl.Series(list(stages.paths), dtype=pl.String)}
    )
    busy = unions.select("device", "path", pl.col("union_ns").alias("busy_ns"))
    return (
        host.join(device, on="path_id", how="left")
        .with_columns(pl.col("device").cast(pl.Int32))
        .join(own, on=["device", "path_id"], how="left")
        .join(names, on="path_id")
        .join(busy, on=["device", "path"], how="left")
        .with_columns(pl.col("projected_ns", "ops", "self_ops", "busy_ns").fill_null(0))
        .sort("path", "device", nulls_last=False)
    )
