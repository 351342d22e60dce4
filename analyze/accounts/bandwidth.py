"""Bytes over time, per link and size of copy.

Rates are per (kind, source and destination memory, source and destination device, size bucket): bytes over the sum of
durations (what one copy sees) and bytes over their union (what the link carried). Copies that touch pageable host memory
go through the driver's staging buffer: their rate is `effective`, it says nothing of the link. A device-to-device copy
reads and writes HBM, so it moves each of its bytes twice there; the figures here count them once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from ...traces.model import COPY_KINDS, KINDS
from ..attribution.window_ops import kind_codes
from ..intervals import grouped_measure
from ..result import SCHEMAS

KIB: Final = 1024
BUCKETS: Final = (
    ("<4KiB", 0),
    ("4-64KiB", 4 * KIB),
    ("64KiB-1MiB", 64 * KIB),
    ("1-16MiB", KIB * KIB),
    ("16-256MiB", 16 * KIB * KIB),
    (">=256MiB", 256 * KIB * KIB),
)
"""Sizes of one copy, as (label, lower bound in bytes)."""

PEAK_COLUMNS: Final = ("peak_bytes_per_s", "peak_source", "share", "expected_bytes_per_s")
"""What `peaks.with_peaks` adds to the table."""

IS_COPY: Final = np.array([kind in COPY_KINDS for kind in KINDS])

_KEYS: Final = ("device", "kind", "src_kind", "dst_kind", "src_device", "dst_device", "bucket")


def bandwidth_table(ops: pl.DataFrame) -> pl.DataFrame:
    """Table ``bandwidth`` without `PEAK_COLUMNS`, of `ops` (sorted by start; copies of unknown size are left out)."""
    copies = copies_of(ops).filter(pl.col("nbytes").is_not_null())
    size = copies["nbytes"].to_numpy()
    bucket = np.searchsorted([low for _, low in BUCKETS], size, side="right") - 1
    copies = copies.with_columns(
        pl.Series("bucket", [BUCKETS[max(b, 0)][0] for b in bucket.tolist()], dtype=pl.String),
        (pl.col("end_ns") - pl.col("start_ns")).alias("ns"),
    ).with_columns(pl.struct(_KEYS).rank("dense").cast(pl.Int64).sub(1).alias("group"))
    groups = int(copies["group"].to_numpy().max(initial=-1)) + 1
    union = grouped_measure(
        copies["group"].to_numpy(), copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy(), groups
    )
    host_side = pl.col("src_kind").cast(pl.String).eq("pageable") | pl.col("dst_kind").cast(pl.String).eq("pageable")
    return (
        copies.group_by("group", *_KEYS)
        .agg(pl.len().cast(pl.Int64).alias("ops"), pl.col("nbytes").sum(), pl.col("ns").sum().alias("sum_ns"))
        .join(pl.DataFrame({"group": np.arange(groups), "union_ns": union}), on="group")
        .with_columns(
            _rate("sum_ns").alias("bytes_per_s"),
            _rate("union_ns").alias("union_bytes_per_s"),
            host_side.fill_null(False).alias("effective"),
        )
        .sort("device", "kind", "group")
        .select(*(column for column in SCHEMAS["bandwidth"] if column not in PEAK_COLUMNS))
    )


def copies_of(ops: pl.DataFrame) -> pl.DataFrame:
    """The ops that are copies: few of many, so their rows are chosen by number."""
    return ops[np.flatnonzero(IS_COPY[kind_codes(ops)])]


def _rate(column: str) -> pl.Expr:
    return pl.when(pl.col(column) > 0).then(pl.col("nbytes") / pl.col(column) * 1e9)
