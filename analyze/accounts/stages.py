"""Stages projected onto the devices their work ran on.

A stage instance (one range) projects onto a device as ``[start of its first op, end of its last op)``. Figures of a path
include the ops of nested stages; ``self_ops`` does not. Each op is counted once for its innermost stage and rolled up the
tree of ranges from there, so that the cost is that of the ranges, not of ops times depth.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.engine import primitive
from ...traces.model import KIND_TYPE, KINDS
from ..attribution.stages import Stages
from ..attribution.steps import NOTHING
from ..intervals import Ints, measure
from ..result import SCHEMAS

INSTANCES: Final = {
    "device": pl.Int32,
    "stage": pl.Int64,
    "ops": pl.Int64,
    "first_ns": pl.Int64,
    "last_ns": pl.Int64,
    "self_ops": pl.Int64,
}
"""Columns of `per_instance`."""


def per_instance(device: int, ops: pl.DataFrame, stages: Stages) -> pl.DataFrame:
    """(device, stage, ops, first_ns, last_ns, self_ops): every range that ops belong to, nested ops included but in `self_ops`.

    `ops` are those of `device`, with columns stage (code), start_ns, end_ns; rows with a negative stage are ignored.
    """
    stage, start, end = ops["stage"].to_numpy(), ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    count, first, last, own = _project(stage, start, end, stages.parent)
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


def kind_codes(ops: pl.DataFrame) -> npt.NDArray[np.int8]:
    """The kind of each op as a position in `KINDS`."""
    return np.asarray(ops["kind"].to_physical().to_numpy().astype(np.int8))


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
    path_id = stages.path_id[shown]
    count, host_ns = np.bincount(path_id, minlength=len(stages.paths)), np.zeros(len(stages.paths), np.int64)
    np.add.at(host_ns, path_id, end - start)
    listed = np.flatnonzero(count)
    host = pl.DataFrame({"path_id": listed, "instances": count[listed], "host_ns": host_ns[listed]})
    if len(payload):  # few traces have any
        said = pl.DataFrame({"path_id": path_id, "range_id": stages.range_id[shown]})
        said = said.join(payload, on="range_id").group_by("path_id").agg(pl.col("nbytes").sum().alias("payload_bytes"))
        host = host.join(said, on="path_id", how="left")
    else:
        host = host.with_columns(pl.lit(None, pl.Int64).alias("payload_bytes"))
    chosen = np.zeros(len(stages), bool)
    chosen[shown] = True
    names = pl.DataFrame(
        {"path_id": np.arange(len(stages.paths)), "path": pl.Series(list(stages.paths), dtype=pl.String)}
    )
    busy = unions.select("device", "path", pl.col("union_ns").alias("busy_ns"))
    return (
        host.join(_by_path(instances, stages, chosen), on="path_id", how="left")
        .with_columns(pl.col("device").cast(pl.Int32))
        .join(names, on="path_id")
        .join(busy, on=["device", "path"], how="left")
        .with_columns(pl.col("projected_ns", "ops", "self_ops", "busy_ns").fill_null(0))
        .sort("path", "device", nulls_last=False)
    )


def _by_path(instances: pl.DataFrame, stages: Stages, chosen: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """(device, path_id, projected_ns, ops, self_ops) of the paths that have stages among `chosen`. All stages of the path count
    for `self_ops`: also ranges that are not listed, such as `measured` within a stage."""
    found = [pl.DataFrame(schema={"device": pl.Int32, "path_id": pl.Int64, **dict.fromkeys(_SUMMED, pl.Int64)})]
    for device in instances["device"].unique().sort().to_list():
        mine = instances.filter(pl.col("device") == device)
        stage = mine["stage"].to_numpy()
        path_id, listed = stages.path_id[stage], chosen[stage]
        sums = {name: np.zeros(len(stages.paths), np.int64) for name in _SUMMED}
        np.add.at(sums["projected_ns"], path_id[listed], (mine["last_ns"] - mine["first_ns"]).to_numpy()[listed])
        np.add.at(sums["ops"], path_id[listed], mine["ops"].to_numpy()[listed])
        np.add.at(sums["self_ops"], path_id, mine["self_ops"].to_numpy())
        used = np.flatnonzero(np.bincount(path_id[listed], minlength=len(stages.paths)))
        key = {"device": pl.repeat(device, len(used), dtype=pl.Int32, eager=True), "path_id": used}
        found.append(pl.DataFrame({**key, **{name: column[used] for name, column in sums.items()}}))
    return pl.concat(found)


_SUMMED: Final = ("projected_ns", "ops", "self_ops")
