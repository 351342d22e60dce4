"""Stages projected onto the devices their work ran on.

A stage instance (one range) projects onto a device as ``[start of its first op, end of its last op)``. Figures of a path
include the ops of nested stages; ``self_ops`` does not. Each op is counted once for its innermost stage and rolled up the
tree of ranges from there, so that the cost is that of the ranges, not of ops times depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl

from ...traces.engine import primitive
from ...traces.model import KIND_TYPE, KINDS
from ..attribution.stages import Stages
from ..attribution.steps import NOTHING
from ..attribution.window_ops import kind_codes
from ..intervals import Ints, measure
from ..naming.paths import at_or_above
from ..result import SCHEMAS, joined

_PROJECTED: Final = {"device": pl.Int32, **dict.fromkeys(("path_id", "projected_ns", "ops", "self_ops"), pl.Int64)}


def stage_tables(
    found: Sequence[Mapping[str, pl.DataFrame]],
    stages: Stages,
    shown: Ints,
    ranges: pl.DataFrame,
    limits: tuple[int, int] | None,
    collectives: pl.DataFrame,
) -> dict[str, pl.DataFrame]:
    """Tables ``stages`` (those `shown`, by path and device; paths without ops have a null device) and ``stage_kinds``.

    `found` is what `stage_kinds` and `projected` say of each device, `ranges` the trace's table, whose bytes are a stage's
    payload; ``host_ns`` counts only what lies within the `limits`, if given. `collectives` is the table of that name.
    """
    kinds = joined(found, "stage_kinds")["stage_kinds"].sort("path", "device", maintain_order=True)
    instances = pl.concat([pl.DataFrame(schema=_PROJECTED), *(one["projected"] for one in found)])
    payload = ranges.select("range_id", "nbytes").drop_nulls()
    start, end = stages.start_ns[shown], stages.end_ns[shown]
    if limits is not None:
        start, end = np.clip(start, *limits), np.clip(end, *limits)
    path_id = stages.path_id[shown]
    count, host_ns = np.bincount(path_id, minlength=len(stages.paths)), np.zeros(len(stages.paths), np.int64)
    np.add.at(host_ns, path_id, end - start)
    first = np.full(len(stages.paths), np.iinfo(np.int64).max)
    np.minimum.at(first, path_id, stages.start_ns[shown])
    listed = np.flatnonzero(count)
    columns = {"instances": count[listed], "host_ns": host_ns[listed], "first_start_ns": first[listed]}
    host = pl.DataFrame({"path_id": listed, **columns}).with_columns(
        pl.Series("path", [stages.paths[i] for i in listed.tolist()], dtype=pl.String)
    )
    if len(payload):  # few traces have any
        said = pl.DataFrame({"path_id": path_id, "range_id": stages.range_id[shown]})
        said = said.join(payload, on="range_id").group_by("path_id").agg(pl.col("nbytes").sum().alias("payload_bytes"))
        host = host.join(said, on="path_id", how="left")
    else:
        host = host.with_columns(pl.lit(None, pl.Int64).alias("payload_bytes"))
    busy = kinds.filter(pl.col("kind").is_null()).select("device", "path", pl.col("union_ns").alias("busy_ns"))
    table = (
        host.join(instances, on="path_id", how="left")
        .join(busy, on=["device", "path"], how="left")
        .join(comm_waits(collectives), on=["device", "path"], how="left")
        .with_columns(pl.col("projected_ns", "ops", "self_ops", "busy_ns").fill_null(0))
        .sort("path", "device", nulls_last=False)
        .select(*SCHEMAS["stages"])
    )
    return {"stages": table, "stage_kinds": kinds.filter(pl.col("kind").is_not_null())}


def comm_waits(collectives: pl.DataFrame) -> pl.DataFrame:
    """Columns device, path, comm_wait_ns and comm_transfer_ns of each path with paired collectives, nested stages included.

    Rows of table ``collectives`` go to the stage that owns their ops and to those it nests in. A row of which nothing was paired
    goes nowhere: how long it waited is unknown, not zero.
    """
    found: dict[tuple[int, str], list[int]] = {}
    known = collectives.filter(pl.col("paired") > 0).select("device", "stage", "comm_wait_ns", "comm_ns")
    for device, stage, wait, transfer in known.iter_rows():
        for path in at_or_above(stage):
            sums = found.setdefault((device, path), [0, 0])
            sums[0] += wait
            sums[1] += transfer
    schema = {name: SCHEMAS["stages"][name] for name in ("device", "path", "comm_wait_ns", "comm_transfer_ns")}
    return pl.DataFrame([(*key, *sums) for key, sums in found.items()], schema, orient="row")


def projected(device: int, ops: pl.DataFrame, stages: Stages, shown: Ints) -> pl.DataFrame:
    """`_PROJECTED`: every path with stages among those `shown` that ops belong to, nested ops included but in `self_ops`.

    `ops` are those of `device`, with columns stage (code), start_ns, end_ns; rows with a negative stage are ignored. All stages
    of the path count for `self_ops`: also ranges that are not listed, such as `measured` within a stage.
    """
    stage, start, end = ops["stage"].to_numpy(), ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    count, first, last, own = _project(stage, start, end, stages.parent)
    listed = shown[count[shown] > 0]
    sums = np.zeros((3, len(stages.paths)), np.int64)
    np.add.at(sums[0], stages.path_id[listed], last[listed] - first[listed])
    np.add.at(sums[1], stages.path_id[listed], count[listed])
    np.add.at(sums[2], stages.path_id, own)
    used = np.flatnonzero(np.bincount(stages.path_id[listed], minlength=len(stages.paths)))
    return pl.DataFrame([np.full(len(used), device), used, *sums[:, used]], schema=_PROJECTED)


@primitive
def _project(stage: Ints, start: Ints, end: Ints, parent: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """(ops, first start, last end, own ops) of each stage with nested ones rolled up. Parents precede their children."""
    inside = np.flatnonzero(stage >= 0)
    code = stage[inside]
    own = np.bincount(code, minlength=len(parent))
    limits = np.iinfo(np.int64)
    first, last = np.full(len(parent), limits.max), np.full(len(parent), limits.min)
    np.minimum.at(first, code, start[inside])
    np.maximum.at(last, code, end[inside])
    count, rising = own.copy(), own  # ops on their way up, one level a turn
    while rising.any():
        below = np.flatnonzero((rising > 0) & (parent != NOTHING))
        above = parent[below]
        np.minimum.at(first, above, first[below])
        np.maximum.at(last, above, last[below])
        step = np.zeros_like(rising)
        np.add.at(step, above, rising[below])
        count, rising = count + step, step
    return count, first, last, own


def stage_kinds(device: int, ops: pl.DataFrame, stages: Stages) -> pl.DataFrame:
    """Table ``stage_kinds`` of `device`, and per path the union of all its ops (rows with a null kind).

    `ops` are those of the device, with columns stage, kind, start_ns, end_ns, nbytes and sorted by start; times are already
    clipped.
    """
    node, kind = stages.node_of(ops["stage"].to_numpy()), kind_codes(ops)
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    nbytes = ops["nbytes"].fill_null(0).to_numpy()
    above = [sorted(paths) for paths in stages.paths_above]
    first = np.cumsum([0, *map(len, above)]).astype(np.int32)
    paths = np.array([p for each in above for p in each], np.int32)
    count, total, union, size = _path_kinds(kind, node, start, end, nbytes, first, paths, len(stages.paths), len(KINDS))
    width = len(KINDS) + 1
    used = np.flatnonzero(count)
    return pl.DataFrame(
        {
            "device": pl.repeat(device, len(used), dtype=pl.Int32, eager=True),
            "path": pl.Series([stages.paths[i] for i in (used // width).tolist()], dtype=pl.String),
            "kind": pl.Series([(*KINDS, None)[i] for i in (used % width).tolist()], dtype=KIND_TYPE),
            "ops": count[used],
            "sum_ns": total[used],
            "union_ns": union[used],
            "nbytes": size[used],
        },
        schema=SCHEMAS["stage_kinds"],
    )


@primitive
def _path_kinds(
    kind: Ints, node: Ints, start: Ints, end: Ints, nbytes: Ints, above_first: Ints, above: Ints, paths: int, kinds: int
) -> tuple[Ints, Ints, Ints, Ints]:
    """Ops, sum of their times, union of them and bytes of every (path, kind), nested stages included, as arrays of
    ``paths * (kinds + 1)``; the last of each path's kinds is all of them.

    The paths at or above node n are ``above[above_first[n]:above_first[n + 1]]``; ops of a negative node are ignored.
    """
    out = np.zeros((4, paths, kinds + 1), np.int64)
    nodes = len(above_first) - 1
    order = np.argsort(
        node.astype(np.min_scalar_type(-nodes - 1)), kind="stable"
    )  # brings the ops of each node together
    place = np.searchsorted(node[order], np.arange(nodes + 1))
    by_path = np.argsort(above, kind="stable")
    below = np.repeat(np.arange(nodes), np.diff(above_first))[by_path]
    bounds = np.searchsorted(above[by_path], np.arange(paths + 1))
    for path in np.flatnonzero(np.diff(bounds)).tolist():
        parts = [order[place[n] : place[n + 1]] for n in below[bounds[path] : bounds[path + 1]].tolist()]
        rows = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
        used = np.flatnonzero(np.bincount(kind[rows])).tolist()
        chosen = [(k, rows if len(used) == 1 else rows[kind[rows] == k]) for k in used]
        for k, some in chosen if len(rows) == 0 else [*chosen, (kinds, rows)]:
            s, e = start[some], end[some]
            out[:, path, k] = len(some), (e - s).sum(), measure(s, e), nbytes[some].sum()
    count, total, union, size = out.reshape(4, -1)
    return count, total, union, size
