"""What each stage had each device do, operation by operation: the amounts that rates are made of.

Kernels are told by their full name (a trace keeps no grids), copies and memsets by their kind alone. Like everything in a window,
operations count with the part that lies inside; so do their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

import numpy as np
import polars as pl

from ...traces.model import COPY_KINDS
from ..attribution.stages import Stages
from ..attribution.window import Span
from ..result import SCHEMAS

MOVING: Final = (*COPY_KINDS, "memset")
"""The kinds whose work is bytes."""


def work_table(ops: pl.DataFrame, spans: Sequence[Span], stages: Stages, host_devices: Set[int]) -> pl.DataFrame:
    """Table ``work``: the operations inside each window by innermost stage, kind and name, sorted by these.

    `ops` are all of the trace, with a column `stage` of codes. Of a copy that the window cuts, the bytes are taken in proportion
    to its time inside.
    """
    start, end = pl.col("start_ns"), pl.col("end_ns")
    path = pl.Series("path", stages.path_of_code(ops["stage"].to_numpy()).astype(np.int32))
    # What a host device does is named by its stages, which differ as the program is cut into stages.
    unnamed = pl.col("kind").is_in(MOVING) | pl.col("device").is_in(sorted(host_devices))
    name = pl.when(unnamed).then(None).otherwise(pl.col("name"))
    parts = []
    for span in spans:
        low, high = span.start_ns, span.end_ns
        touching = (start < high) & ((end > low) | ((start == end) & (end >= low)))
        inside, whole = end.clip(low, high) - start.clip(low, high), end - start
        share = (pl.col("nbytes") * (inside / whole)).round().cast(pl.Int64, strict=False)  # no length, no share
        nbytes = pl.when(inside < whole).then(share).otherwise(pl.col("nbytes"))
        unsaid = nbytes.is_null().any() | ~pl.col("kind").is_in(MOVING).first()
        parts.append(
            ops.lazy()
            .with_columns(path)
            .filter((pl.col("device") == span.device) & touching)
            .group_by("path", "kind", name.alias("name"))
            .agg(
                pl.len().cast(pl.Int64).alias("ops"),
                inside.sum().alias("sum_ns"),
                pl.when(~unsaid).then(nbytes.sum()).alias("nbytes"),
            )
            .with_columns(pl.lit(span.device, pl.Int32).alias("device"), pl.col("name").cast(pl.String).fill_null(""))
            .collect()
        )
    if not parts:
        return pl.DataFrame(schema=SCHEMAS["work"])
    found = pl.concat(parts)
    stage = pl.Series("stage", [stages.path_names[p] for p in found["path"]], dtype=pl.String)
    table = found.with_columns(stage).select(*SCHEMAS["work"]).cast(pl.Schema(SCHEMAS["work"]))
    return table.sort("device", "stage", "kind", "name")
