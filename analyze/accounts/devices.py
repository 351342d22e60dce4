"""What each device did in its window: busy and idle time, every kind of work, and what ran beside what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from ...traces.columns import SLICE
from ...traces.model import KIND_TYPE, KINDS
from ..attribution.stages import Stages
from ..attribution.window import Span
from ..attribution.window_ops import WindowOps, kind_codes
from ..intervals import Ints, grouped_measure, measure
from ..result import SCHEMAS
from .overlap import overlap_tables
from .stages import projected, stage_kinds


def by_device(ops: WindowOps, devices: pl.DataFrame, stages: Stages, shown: Ints) -> list[Mapping[str, pl.DataFrame]]:
    """One look at all ops of each device: its rows of tables ``devices``, ``kinds``, ``overlap`` and ``exposed``, where it has a
    window, and what `stages.stage_tables` needs.

    `devices` is the trace's table of devices. Several devices' ops are copied to look at them, which is done once.
    """
    return [_of_device(device, ops, devices, stages, shown) for device in ops.used_devices()]


def window_table(spans: Sequence[Span]) -> pl.DataFrame:
    """Table ``windows``."""
    rows = [(span.device, span.start_ns, span.end_ns) for span in spans]
    return pl.DataFrame(rows, schema=SCHEMAS["windows"], orient="row")


def _of_device(
    device: int, ops: WindowOps, devices: pl.DataFrame, stages: Stages, shown: Ints
) -> Mapping[str, pl.DataFrame]:
    mine = ops.of_device(device, "stage", "kind", "start_ns", "end_ns", "nbytes")
    found = {"stage_kinds": stage_kinds(device, mine, stages), "projected": projected(device, mine, stages, shown)}
    if device not in {span.device for span in ops.spans}:  # its ops take no time
        return found
    found |= {"devices": _device_row(device, mine, devices), "kinds": _kinds(device, mine)}
    mine = mine.drop("nbytes")
    return found | overlap_tables(device, mine, stages)


def _device_row(device: int, ops: pl.DataFrame, devices: pl.DataFrame) -> pl.DataFrame:
    """The row of table ``devices``."""
    start, end = ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy()
    span, busy = int(end.max() - start.min()) if len(start) else 0, measure(start, end)
    known = devices.filter(pl.col("device") == device).select("name", "type").rows()
    name, type_ = known[-1] if known else (None, "gpu")
    row = (device, name or f"device {device}", type_, span, busy, span - busy)
    return pl.DataFrame([row], schema=SCHEMAS["devices"], orient="row")


def _kinds(device: int, ops: pl.DataFrame) -> pl.DataFrame:
    """The rows of table ``kinds``."""
    union = grouped_measure(kind_codes(ops), ops["start_ns"].to_numpy(), ops["end_ns"].to_numpy(), len(KINDS))
    unions = pl.DataFrame({"kind": pl.Series(KINDS, dtype=KIND_TYPE), "union_ns": union})
    # Some ops at a time: to group all of them at once, polars copies them.
    sums = pl.concat(
        part.group_by("kind").agg(
            pl.len().cast(pl.Int64).alias("ops"),
            (pl.col("end_ns") - pl.col("start_ns")).sum().alias("sum_ns"),
            pl.col("nbytes").sum(),
        )
        for part in (ops.iter_slices(SLICE) if len(ops) else [ops])
    )
    return (
        sums.group_by("kind")
        .agg(pl.all().sum())
        .join(unions, on="kind")
        .sort("kind")
        .with_columns(pl.lit(device, pl.Int32).alias("device"))
        .select(*SCHEMAS["kinds"])
    )
