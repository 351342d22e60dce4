"""The metrics a mechanism claim may name, each a pure function of an `Analysis`.

`METRICS` is the whole list. A metric says its unit, whether it means the same on every machine, which parts of the
trace must be trusted for it, where its words are defined, and how to read it. Counts are per iteration; where a trace has
no iterations they are of the whole window. Several devices are summed before dividing, so a fraction is weighted by the
devices' times.

Per-iteration values exist where the analysis attributes the quantity to iterations (the ledger, and overlaps of the whole
device); the others are totals of the window, and say so by `Reading.per_iteration` being null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...analyze.accounts.counters import METRICS as COUNTERS
from ...analyze.accounts.overlap import PAIRS
from ...analyze.result import CAUSES, IDLE, Analysis
from ...traces.errors import UsageError
from ...traces.faults import nearest
from ...traces.model import COPY_KINDS, KINDS
from ..model import Bound
from . import counts as read_counts
from . import rates as read_rates
from . import shares as read_shares
from .reading import Reader, Reading, naming

__all__ = ["METRICS", "TAKES_STAGE", "Metric", "Reading", "cannot_fail", "chosen", "greatest", "unknown"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the registry.

    `choices` are the values of a claim's `of` (empty: it takes none). `stage` is "never", "optional" or "required".
    `machine_independent` metrics may be judged on every machine. `counted` ones are exact: one window is enough.
    `trust` names the rows of the trust table that must be "ok"; a claim on a stage also needs "projection", one on
    communication also "comm". `defined_in` is the page or section of ``docs/definitions`` that defines the words of `about`;
    `reader` is given an analysis whose stages have the names that the claim uses.
    """

    unit: str
    about: str
    machine_independent: bool
    counted: bool
    choices: tuple[str, ...]
    stage: str
    trust: tuple[str, ...]
    defined_in: str
    reader: Reader

    def read(self, analysis: Analysis, of: str | None, stage: str | None) -> Reading:
        """The metric of `analysis`. A claim's `stage` is a path of recorded names, as ``step 3/forward``, or, where there is
        none of that path, of folded ones, as ``step #/forward``.
        """
        return self.reader(naming(analysis, stage), of, stage)

    def trusts(self, of: str | None, stage: str | None) -> tuple[str, ...]:
        """Every trust row a claim with this `of` and `stage` depends on."""
        rows = list(self.trust)
        if stage is not None:
            rows.append("projection")
        if of is not None and "comm" in of.split("|"):
            rows.append("comm")
        return tuple(dict.fromkeys(rows))


_HIDDEN_UNDER: Final = tuple(f"{a}|{b}" for a, b in PAIRS)
_COUNTED: Final = (*KINDS, "copy", "all")
_CATEGORIES: Final = (*KINDS, "copy", IDLE, "all")

METRICS: Final[Mapping[str, Metric]] = {
    "overlap.efficiency": Metric(
        "fraction",
        "time a and b ran together, of the most they could: both / min(a, b)",
        True, False, _HIDDEN_UNDER, "optional", ("overlap",), "overlap.md#overlap", read_shares.overlap("efficiency"),
    ),
    "overlap.hidden": Metric(
        "fraction",
        "part of a's time during which b ran too: both / a",
        False, False, _HIDDEN_UNDER, "optional", ("overlap", "time"), "overlap.md#overlap", read_shares.overlap("hidden"),
    ),
    "exposed.share": Metric(
        "fraction", "part of the window in which copies (or communication) ran with nothing to hide them",
        False, False, ("copy", "comm"), "optional", ("overlap", "time"), "overlap.md#overlap", read_shares.exposed_share,
    ),
    "comm.wait_share": Metric(
        "fraction", "part of the collectives' time spent waiting for the last rank",
        False, False, (), "optional", ("comm", "time"), "communication.md#collectives", read_shares.comm_wait_share,
    ),
    "job.exposed_comm_share": Metric(
        "fraction", "part of all ranks' iteration time in which communication ran with nothing to hide it",
        False, False, (), "never", ("ledger", "time"), "communication.md#ranks", read_shares.of_job("exposed_comm_share"),
    ),
    "job.straggler_share": Metric(
        "fraction", "how late the last ranks of the iterations were, of the job's iteration time",
        False, False, (), "never", ("ledger", "time"), "communication.md#ranks", read_shares.of_job("straggler_share"),
    ),
    "job.skew": Metric(
        "fraction", "first to last arrival at an iteration's worst collective, of its length; the median iteration",
        False, False, (), "never", ("ledger", "time"), "communication.md#ranks", read_shares.of_job("skew"),
    ),
    "copies.count": Metric(
        "count", "copies of a direction per iteration",
        True, True, (*COPY_KINDS, "copy"), "optional", ("bytes",), "bandwidth.md", read_counts.ops("ops"),
    ),
    "copies.bytes": Metric(
        "bytes", "bytes copied in a direction per iteration",
        True, True, (*COPY_KINDS, "copy"), "optional", ("bytes",), "bandwidth.md", read_counts.ops("nbytes"),
    ),
    "ops.count": Metric(
        "count", "device operations of a kind per iteration",
        True, True, _COUNTED, "optional", ("ledger",), "work.md", read_counts.ops("ops"),
    ),
    "kernels.count": Metric(
        "count", "kernels per iteration, those of communication included",
        True, True, (), "optional", ("ledger",), "launches.md", read_counts.kernels,
    ),
    "kernels.small_share": Metric(
        "fraction", "part of the kernels that are shorter than 10 us",
        False, False, (), "optional", ("ledger", "time"), "launches.md", read_shares.small_kernel_share,
    ),
    "stage.ops": Metric(
        "count", "device operations of a stage per iteration, nested stages included",
        True, True, (), "required", ("ledger",), "stages.md", read_counts.stage_ops,
    ),
    "stage.instances": Metric(
        "count", "how often a stage was entered per iteration",
        True, True, (), "required", (), "stages.md", read_counts.instances,
    ),
    "stage.bytes": Metric(
        "bytes", "bytes that the ranges of a stage say they move, per iteration: a model, not a measurement",
        True, True, (), "required", (), "stages.md", read_counts.stage_bytes,
    ),
    "stage.share": Metric(
        "fraction", "part of the window that a stage spent in a ledger category",
        False, False, _CATEGORIES, "required", ("ledger", "time"), "ledger.md", read_shares.stage_share,
    ),
    "stage.busy_share": Metric(
        "fraction",
        "part of a device's time in a category, or at work, that belongs to a stage; without idle time, so a host "
        "slowed down by recording does not change it",
        False, False, _COUNTED, "required", ("ledger",), "ledger.md", read_shares.stage_busy_share,
    ),
    "idle.share": Metric(
        "fraction", "part of the window in which the device idled for a cause; host: any cause on the host's side",
        False, False, (*CAUSES, "host", "all"), "optional", ("ledger", "causes", "time"), "ledger.md",
        read_shares.idle_share,
    ),
    "critical.share": Metric(
        "fraction", "part of the critical path by kind, host, wait or cause",
        False, False, (*KINDS, "copy", "host", "wait", *CAUSES, "all"), "optional",
        ("ledger", "causes", "time"), "critical_path.md", read_shares.critical_share,
    ),
    "allocator.stall_share": Metric(
        "fraction", "part of the window, or of a stage, in which the device waited for the allocator",
        False, False, (), "optional", ("ledger", "allocator", "time"), "memory.md#allocator", read_shares.stall_share,
    ),
    "allocator.calls": Metric(
        "count", "calls of the driver's allocator per iteration",
        True, True, (), "optional", ("allocator",), "memory.md#allocator", read_counts.allocator_calls,
    ),
    "memory.peak_bytes": Metric(
        "bytes", "most bytes of a group in use at once, as the driver handed them out",
        False, True, ("device", "pinned"), "optional", ("allocator",), "memory.md#memory", read_counts.memory_peak,
    ),
    "bandwidth.gb_per_s": Metric(
        "GB/s", "bytes copied in a direction over the time its copies took",
        False, False, COPY_KINDS, "never", ("bandwidth", "time"), "bandwidth.md", read_rates.bandwidth,
    ),
    "bandwidth.peak_share": Metric(
        "fraction", "bytes of a direction over the union of its copies' times, of the link's peak",
        False, False, COPY_KINDS, "never", ("bandwidth", "time"), "bandwidth.md", read_rates.peak_share,
    ),
    "hbm.bytes": Metric(
        "bytes", "device memory traffic per iteration, by sampled counters",
        False, False, tuple(read_rates.HBM), "optional", ("time",), "counters.md#hardware-counters", read_rates.hbm_bytes,
    ),
    "hbm.model_ratio": Metric(
        "ratio", "device memory traffic of a stage, read and written, of the bytes that its ranges say they move",
        False, False, (), "required", ("ledger", "time"), "counters.md#hardware-counters", read_rates.hbm_model_ratio,
    ),
    "counter.share": Metric(
        "fraction", "mean of a sampled counter over the window, or while a stage was busy",
        False, False, tuple(COUNTERS), "optional", ("time",), "counters.md#hardware-counters", read_rates.counter_share,
    ),
}  # fmt: skip

TAKES_STAGE: Final[Mapping[str, str]] = {"never": "no", "optional": "may", "required": "must"}
"""`Metric.stage` -> what people read of it."""


def chosen(names: Sequence[str]) -> dict[str, Metric]:
    """The metrics called `names`, all where none is named; raises `UsageError` for one that does not exist."""
    for name in names:
        if name not in METRICS:
            raise UsageError(unknown(name))
    return {name: METRICS[name] for name in names or METRICS}


def unknown(name: str) -> str:
    """That no metric is called `name`, and where those that exist are."""
    return f"no metric is called {name!r}{nearest(name, METRICS, '`aisp-trace expectations metrics` lists them')}"


_MAY_EXCEED_THE_WHOLE: Final = ("bandwidth.peak_share",)
"""A link may turn out faster than the peak it is held against."""


def greatest(name: str, unit: str) -> float | None:
    """The greatest value that metric `name` can have in a claim's `unit`; null where there is none.

    No fraction is more than the whole. A quotient of two variants knows no such end.
    """
    return 1.0 if unit == "fraction" and name not in _MAY_EXCEED_THE_WHOLE else None


def cannot_fail(name: str, bound: Bound, unit: str) -> bool:
    """Whether every value that metric `name` can have lies inside `bound`, so that nothing is claimed."""
    most = greatest(name, unit)
    below = bound.minimum is None or bound.minimum <= 0  # no metric is negative
    return below and (bound.maximum is None or (most is not None and bound.maximum >= most))
