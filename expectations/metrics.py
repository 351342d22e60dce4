"""The metrics a mechanism claim may name, each a pure function of an `Analysis`.

`METRICS` is the whole list. A metric says its unit, whether it means the same on every machine, which parts of the
trace must be trusted for it, and how to read it. Counts are per iteration; where a trace has no iterations they are of
the whole window. Several devices are summed before dividing, so a fraction is weighted by the devices' times.

Per-iteration values exist where the analysis attributes the quantity to iterations (the ledger does); the others are
totals of the window, and say so by `Reading.per_iteration` being null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from ..analyze.overlap import PAIRS
from ..analyze.result import CAUSES, IDLE, Analysis
from ..traces.model import COPY_KINDS, KINDS


@dataclass(frozen=True, slots=True)
class Reading:
    """What a metric found. `total` is over the window (counts: divided by its iterations), null where there is none.

    `absent` says why there is nothing to measure ("no copies"): a claim about it cannot be judged. `unavailable` says
    why the evidence does not carry the number: a claim on it is invalid. Both are empty where `total` is a number.
    """

    total: float | None
    per_iteration: tuple[float, ...] | None
    iterations: int
    absent: str = ""
    unavailable: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the registry.

    `choices` are the values of a claim's `of` (empty: it takes none). `stage` is "never", "optional" or "required".
    `machine_independent` metrics may be judged on every machine. `counted` ones are exact: one window is enough.
    `trust` names the rows of the trust table that must be "ok"; a claim on a stage also needs "projection", one on
    communication also "comm".
    """

    unit: str
    about: str
    machine_independent: bool
    counted: bool
    choices: tuple[str, ...]
    stage: str
    trust: tuple[str, ...]
    read: Callable[[Analysis, str | None, str | None], Reading]

    def trusts(self, of: str | None, stage: str | None) -> tuple[str, ...]:
        """Every trust row a claim with this `of` and `stage` depends on."""
        rows = list(self.trust)
        if stage is not None:
            rows.append("projection")
        if of is not None and "comm" in of.split("|"):
            rows.append("comm")
        return tuple(dict.fromkeys(rows))


def _overlap(column: str) -> Callable[[Analysis, str | None, str | None], Reading]:
    def read(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
        a, b = str(of).split("|")
        rows = analysis.overlap.filter(
            (pl.col("a") == a) & (pl.col("b") == b) & (pl.col("stage").is_null() if stage is None else _at(stage))
        )
        whole = pl.col("a_ns") if column == "hidden" else pl.min_horizontal("a_ns", "b_ns")
        both, ideal = rows.select(pl.col("both_ns").sum(), whole.alias("whole").sum()).row(0)
        if not ideal:
            a_ns, b_ns = rows.select(pl.col("a_ns").sum(), pl.col("b_ns").sum()).row(0)
            nothing = a if not a_ns else b if not b_ns else f"device with both {a} and {b}"
            return _nothing(analysis, f"no {nothing}{_in(stage)}")
        return _total(analysis, both / ideal)

    return read


def _copies(column: str) -> Callable[[Analysis, str | None, str | None], Reading]:
    def read(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
        return _count(analysis, of, stage, column)

    return read


def _count(analysis: Analysis, of: str | None, stage: str | None, column: str = "ops") -> Reading:
    graphs = _sum(analysis.kinds.filter(pl.col("kind") == "graph"), "ops")
    if graphs and of != "graph":
        return _unavailable(analysis, f"{graphs} CUDA graphs were recorded whole; record them node by node")
    kinds = {"copy": COPY_KINDS, "all": KINDS}.get(str(of), (str(of),))
    if stage is not None and not _has_stage(analysis, stage):
        return _nothing(analysis, f"no stage {stage!r}")
    table = analysis.kinds if stage is None else analysis.stage_kinds.filter(_at(stage, "path"))
    rows = table.filter(pl.col("kind").cast(pl.String).is_in(kinds))
    if column == "nbytes" and _sum(rows, "ops") and not _sum(rows, "nbytes"):
        return _unavailable(analysis, f"the {of} operations of the trace carry no bytes")
    return _per_iteration(analysis, _sum(rows, column))


def _stage_ops(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    if _sum(analysis.kinds.filter(pl.col("kind") == "graph"), "ops"):
        return _count(analysis, "all", stage)
    if not _has_stage(analysis, str(stage)):
        return _nothing(analysis, f"no stage {stage!r}")
    return _per_iteration(analysis, _sum(analysis.stages.filter(_at(str(stage), "path")), "ops"))


def _instances(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    # A stage whose ops ran on two devices has two rows that count the same instances.
    rows = analysis.stages.filter(_at(str(stage), "path")).group_by("path").agg(pl.col("instances").max())
    return _per_iteration(analysis, _sum(rows, "instances"))


def _stage_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    category = pl.lit(True) if of == "all" else pl.col("category") == of
    return _ledger_share(analysis, _under(str(stage)) & category, pl.lit(True), stage)


def _idle_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    idle = pl.col("category") == IDLE
    part = idle if of == "all" else idle & (pl.col("cause") == of)
    return _ledger_share(analysis, part & (pl.lit(True) if stage is None else _under(stage)), pl.lit(True), stage)


def _stall_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    whole = pl.lit(True) if stage is None else _under(stage)
    return _ledger_share(analysis, whole & (pl.col("cause") == "allocator"), whole, stage)


def _exposed_share(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    window = analysis.windows.select((pl.col("end_ns") - pl.col("start_ns")).sum()).item()
    rows = analysis.exposed.filter(
        (pl.col("kind") == of) & (pl.col("stage").is_null() if stage is None else _at(stage))
    )
    if not window or rows.is_empty():
        return _nothing(analysis, f"no {of}{_in(stage)}")
    return _total(analysis, _sum(rows, "ns") / window)


def _bandwidth(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    rows = analysis.bandwidth.filter(pl.col("kind").cast(pl.String) == of)
    time_ns = _sum(rows, "sum_ns")
    if not time_ns:
        return _nothing(analysis, f"no {of} copies")
    return _total(analysis, _sum(rows, "nbytes") / time_ns)  # bytes per nanosecond are GB/s


_HIDDEN_UNDER: Final = tuple(f"{a}|{b}" for a, b in PAIRS)
_COUNTED: Final = (*KINDS, "copy", "all")
_CATEGORIES: Final = (*KINDS, IDLE, "all")

METRICS: Final[Mapping[str, Metric]] = {
    "overlap.efficiency": Metric(
        "fraction",
        "time a and b ran together, of the most they could: both / min(a, b)",
        True, False, _HIDDEN_UNDER, "optional", ("overlap",), _overlap("efficiency"),
    ),
    "overlap.hidden": Metric(
        "fraction",
        "part of a's time during which b ran too: both / a",
        False, False, _HIDDEN_UNDER, "optional", ("overlap", "time"), _overlap("hidden"),
    ),
    "copies.count": Metric(
        "count", "copies of a direction per iteration",
        True, True, (*COPY_KINDS, "copy"), "optional", ("bytes",), _copies("ops"),
    ),
    "copies.bytes": Metric(
        "bytes", "bytes copied in a direction per iteration",
        True, True, (*COPY_KINDS, "copy"), "optional", ("bytes",), _copies("nbytes"),
    ),
    "ops.count": Metric(
        "count", "device operations of a kind per iteration",
        True, True, _COUNTED, "optional", ("ledger",), _count,
    ),
    "stage.ops": Metric(
        "count", "device operations of a stage per iteration, nested stages included",
        True, True, (), "required", ("ledger",), _stage_ops,
    ),
    "stage.instances": Metric(
        "count", "how often a stage was entered per iteration",
        True, True, (), "required", (), _instances,
    ),
    "stage.share": Metric(
        "fraction", "part of the window that a stage spent in a ledger category",
        False, False, _CATEGORIES, "required", ("ledger", "time"), _stage_share,
    ),
    "idle.share": Metric(
        "fraction", "part of the window in which the device idled for a cause",
        False, False, (*CAUSES, "all"), "optional", ("ledger", "causes", "time"), _idle_share,
    ),
    "allocator.stall_share": Metric(
        "fraction", "part of the window, or of a stage, in which the device waited for the allocator",
        False, False, (), "optional", ("ledger", "allocator", "time"), _stall_share,
    ),
    "exposed.share": Metric(
        "fraction", "part of the window in which copies (or communication) ran with nothing to hide them",
        False, False, ("copy", "comm"), "optional", ("overlap", "time"), _exposed_share,
    ),
    "bandwidth.gb_per_s": Metric(
        "GB/s", "bytes copied in a direction over the time its copies took",
        False, False, COPY_KINDS, "never", ("bandwidth", "time"), _bandwidth,
    ),
}  # fmt: skip


# A stage on the main thread has the path iteration/h2d, the same stage on a worker thread only h2d. Claims compare
# variants that differ in exactly that, so they name paths without the range that only groups.
_GROUPS: Final = r"^iteration/"


def _at(stage: str, column: str = "stage") -> pl.Expr:
    """Rows of exactly this stage, nested stages not counted again."""
    return pl.col(column).str.replace(_GROUPS, "") == stage


def _under(stage: str) -> pl.Expr:
    path = pl.col("stage").str.replace(_GROUPS, "")
    return (path == stage) | path.str.starts_with(stage + "/")


def _has_stage(analysis: Analysis, stage: str) -> bool:
    return not analysis.stages.filter(_at(stage, "path")).is_empty()


def _ledger_share(analysis: Analysis, part: pl.Expr, whole: pl.Expr, stage: str | None) -> Reading:
    cells = analysis.ledger.select(
        "iteration",
        pl.when(part.fill_null(False)).then("ns").otherwise(0).alias("part"),
        pl.when(whole.fill_null(False)).then("ns").otherwise(0).alias("whole"),
    )
    if stage is not None and not _has_stage(analysis, stage):
        return _nothing(analysis, f"no stage {stage!r}")
    if not _sum(cells, "whole"):
        return _nothing(analysis, f"no device time{_in(stage)}")
    each = cells.drop_nulls("iteration").group_by("iteration").agg(pl.col("part", "whole").sum()).sort("iteration")
    each = each.filter(pl.col("whole") > 0)
    values = tuple((each["part"] / each["whole"]).to_list()) if each.height else None
    return Reading(_sum(cells, "part") / _sum(cells, "whole"), values, analysis.iterations.height)


def _sum(frame: pl.DataFrame, column: str) -> int:
    return int(frame[column].sum() or 0)


def _per_iteration(analysis: Analysis, number: int) -> Reading:
    return _total(analysis, number / max(analysis.iterations.height, 1))


def _total(analysis: Analysis, value: float) -> Reading:
    return Reading(value, None, analysis.iterations.height)


def _nothing(analysis: Analysis, absent: str) -> Reading:
    return Reading(None, None, analysis.iterations.height, absent=absent)


def _unavailable(analysis: Analysis, why: str) -> Reading:
    return Reading(None, None, analysis.iterations.height, unavailable=why)


def _in(stage: str | None) -> str:
    return "" if stage is None else f" in stage {stage!r}"
