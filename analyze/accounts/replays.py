"""Work of CUDA graphs by the stage it was captured in, with the stage that replays it beside (`attribution.captured`)."""

from __future__ import annotations

import numpy as np
import polars as pl

from ..attribution.attribute import Attributed
from ..attribution.stages import OUTSIDE_STAGE
from ..result import SCHEMAS


def replay_table(a: Attributed) -> pl.DataFrame:
    """Table ``replays``: ops of CUDA graphs in the windows, by the stage where they count and the one that replays them. Both
    are one where they were captured there, or nobody knows where."""
    if a.captured is None:
        return pl.DataFrame(schema=SCHEMAS["replays"])
    at = a.in_window.in_trace(np.arange(len(a.in_window.table), dtype=np.int32))
    replaying = a.replaying[at]
    rows = np.flatnonzero(a.ops["graph_node"].is_not_null().to_numpy()[at] & (replaying != OUTSIDE_STAGE))
    found = (
        pl.DataFrame(
            {
                "device": a.in_window.device[rows],
                "stage": a.in_window.path[rows],
                "replayed_in": a.stages.path_of_code(replaying[rows]),
                "ns": a.in_window.end[rows] - a.in_window.start[rows],
            }
        )
        .group_by("device", "stage", "replayed_in")
        .agg(pl.len().cast(pl.Int64).alias("ops"), pl.col("ns").sum().alias("sum_ns"))
    )
    names = a.stages.path_names
    return (
        found.with_columns(
            pl.Series(name, [names[path] for path in found[name]], dtype=pl.String) for name in ("stage", "replayed_in")
        )
        .select(*SCHEMAS["replays"])
        .cast(pl.Schema(SCHEMAS["replays"]))
        .sort("device", "sum_ns", "stage", "replayed_in", descending=[False, True, False, False])
    )
