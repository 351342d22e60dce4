"""The rules: each names one thing that costs a device a known part of its window, and what to do about it.

A rule rests on cells of the exact ledger, and no two rules on the same cell, so no instant is counted twice; only
`slow_iteration` looks at the same time from another side. What a rule would save at most is the sum of its cells: a change that
takes them away and puts nothing in their place saves that, and no change of what the rule names saves more.

A rule is silent below its share of the window. The shares are those at which this project's own case studies, whose bottlenecks
are known by construction, are told from their optimised variants (tests/test_findings.py).
"""

from __future__ import annotations

import re
from typing import Final

import polars as pl

from ..sampled import sampled
from ..words import duration, rate, size
from .finding import Device, Rule, Seen, stage_of, total

LEAST: Final = 0.05
"""The least share of the window worth a sentence."""

HOST: Final = 0.10
"""The least share for the host's own time between launches: every program that launches from Python has a few per cent."""

EXPOSED: Final = 0.10
"""The least share for exposed copies: the first and the last copy of an iteration can never hide."""

SHORT_NS: Final = 20_000
"""Kernels shorter than this on average take little more time than launching them from Python, framework included."""

MOSTLY: Final = 0.9
"""A direction whose copies are pageable, or small, for this part of their time is taken for that altogether."""

LAUNCHING: Final = ("launch_api", "launch_latency", "earlier_launch")
HOSTLY: Final = (*LAUNCHING, "host_code", "other_api", "driver_overhead")
LOADING: Final = ("lazy_load", "module_load", "graph_build")
COPIES: Final = ("h2d", "d2h", "d2d", "p2p")
SMALL_COPIES: Final = ("<4KiB", "4-64KiB")

GAPS: Final = 20
"""The largest gaps, of which it is said how they began."""

BLOCKED: Final = 0.5
"""From this part of the largest gaps on, by number and by time, those that begin as the host returns from waiting are why it is
late."""

LOADER: Final = re.compile(r"load|fetch|collate|dataset", re.IGNORECASE)
"""What stages that prepare batches are called."""

SLOW: Final = 1.5
"""An iteration this many times the median is an outlier."""

ENOUGH: Final = 5
"""Iterations that make a median worth comparing with."""


def launch_bound(device: Device) -> Seen | None:
    """The device waits for launches of kernels that are shorter than launching them."""
    if _late_host(device) != "launch_bound":
        return None
    cells = device.idle(*HOSTLY)
    kernels, kernel_ns = _kernels(device)
    return Seen(
        cells,
        f"{kernels:,} kernels of {duration(kernel_ns / kernels)} on average{_repeated(device)}; the device waits for the next "
        f"launch {device.part(cells)} of the time",
    )


def blocked_by_syncs(device: Device) -> Seen | None:
    """The host waits for the device, has nothing queued behind, and the device then waits for the host."""
    if _late_host(device) != "blocked_by_syncs":
        return None
    cells = device.idle(*HOSTLY)
    gaps = _largest(device)
    after = gaps.filter(pl.col("opened_by") == "sync")
    return Seen(
        cells,
        f"the device has nothing queued {device.part(cells)} of the time; {after.height} of the {gaps.height} largest gaps "
        f"({duration(int(after['ns'].sum()))}) begin as the host returns from waiting for the device",
    )


def host_bound(device: Device) -> Seen | None:
    """The device waits for the host, for no reason that is told apart."""
    if _late_host(device) != "host_bound":
        return None
    cells = device.idle(*HOSTLY)
    return Seen(
        cells, f"the device has nothing queued {device.part(cells)} of the time, while the host works{_ran(device)}"
    )


def synchronising(device: Device) -> Seen | None:
    """The host waits for the device, and the device then for the host."""
    cells = device.idle("sync")
    return Seen(cells, f"the device idles {duration(total(cells))} while the host is still inside a synchronising call")


def data_loading(device: Device) -> Seen | None:
    """The thread that launches waits for one that prepares batches."""
    return _waiting(device) if _loads(device) else None


def waiting_for_threads(device: Device) -> Seen | None:
    """The thread that launches waits for another one, and the device for both."""
    return None if _loads(device) else _waiting(device)


def pageable_copies(device: Device) -> Seen | None:
    """Copies to and from pageable host memory, which the driver stages and the host waits for."""
    slow = device.of("bandwidth").filter(pl.col("effective"))
    moved, spent = int(slow["nbytes"].sum()), int(slow["sum_ns"].sum())
    if not spent or _small_prevail(device):
        return None
    cells = pl.concat([device.idle("copy_api"), device.busy(*_pageable(device))])
    return Seen(cells, f"{size(moved)} move through pageable memory at {rate(moved / spent * 1e9)} GB/s")


def exposed_copies(device: Device) -> Seen | None:
    """Copies between pinned or device memory that nothing runs beside."""
    if _small_prevail(device):
        return None
    cells = device.busy(*(kind for kind in COPIES if kind not in _pageable(device)))
    kinds = ", ".join(sorted(set(cells["category"].to_list())))
    return Seen(cells, f"{kinds} run while nothing computes, {device.part(cells)} of the time")


def small_copies(device: Device) -> Seen | None:
    """Many copies of few bytes, whose cost is the call."""
    if not _small_prevail(device):
        return None
    small = device.of("bandwidth").filter(pl.col("bucket").is_in(SMALL_COPIES))
    ops = int(small["ops"].sum())
    cells = pl.concat([device.busy(*COPIES), device.idle("copy_api")])
    return Seen(cells, f"{ops:,} copies carry {size(int(small['nbytes'].sum()) / ops)} on average")


def exposed_communication(device: Device) -> Seen | None:
    """Collectives that nothing runs beside, and how much of them waits for another rank."""
    cells = device.busy("comm")
    waits = int(device.of("collectives")["comm_wait_ns"].sum() or 0)
    waiting = f", and {duration(waits)} of all collectives wait for the last rank to begin" if waits else ""
    return Seen(cells, f"collectives run while nothing computes, {device.part(cells)} of the time{waiting}")


def allocator_stalls(device: Device) -> Seen | None:
    """The device waits while the host allocates or frees memory."""
    cells = device.idle("allocator")
    calls = int(device.analysis.allocator["calls"].sum() or 0)
    return Seen(
        cells, f"the device waits for allocator calls ({calls:,} in the window) {device.part(cells)} of the time"
    )


def loading(device: Device) -> Seen | None:
    """Kernels are loaded, modules compiled or graphs built inside the window."""
    cells = device.idle(*LOADING)
    return Seen(cells, f"the device waits while kernels are loaded or graphs built, {device.part(cells)} of the time")


def slow_iteration(device: Device) -> Seen | None:
    """One iteration that takes much longer than the others, and the cells that it has more of."""
    cells = device.ledger.drop_nulls("iteration")
    each = cells.group_by("iteration").agg(pl.col("ns").sum()).sort(["ns", "iteration"])
    if each.height < ENOUGH:
        return None
    median, slowest = int(each["ns"][(each.height - 1) // 2]), int(each["ns"][-1])
    if slowest < SLOW * median:
        return None
    number = int(each["iteration"][-1])
    what = ["stage", "category", "cause"]
    mine = cells.filter(pl.col("iteration") == number).group_by(what).agg(pl.col("ns").sum())
    usual = (
        cells.filter(pl.col("iteration") != number)
        .group_by(what)
        .agg((pl.col("ns").sum() // (each.height - 1)).alias("usual"))
    )
    more = mine.join(usual, on=what, how="left", nulls_equal=True).with_columns(
        (pl.col("ns") - pl.col("usual").fill_null(0)).alias("more")
    )
    first = more.sort(["more", "stage"], descending=[True, False]).head(1)
    ((category, cause, longer),) = first.select("category", "cause", "more").rows()
    return Seen(
        first.select(*what, "ns"),
        f"iteration {number} takes {duration(slowest)}, the median one {duration(median)}; "
        f"{f'idle ({cause})' if cause else category} is {duration(longer)} more",
        slowest - median,
        number,
    )


FURTHER_AHEAD: Final = (
    "let that thread run ahead (prefetch_factor, a longer queue), share its work among more threads, or give it less"
)

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "launch_bound",
        "launch-bound",
        HOST,
        "launch many kernels at once: a CUDA graph, torch.compile(mode='reduce-overhead'), or fewer, larger kernels",
        launch_bound,
    ),
    Rule(
        "blocked_by_syncs",
        "the host waits for the device, then the device for the host",
        HOST,
        "wait for results less often (.item(), .cpu(), print, synchronize), or an iteration later, so that work stays queued",
        blocked_by_syncs,
    ),
    Rule(
        "host_bound",
        "waiting for the host",
        HOST,
        "queue work ahead, and move host work out of the loop or to another thread",
        host_bound,
    ),
    Rule(
        "synchronising",
        "idle inside synchronising calls",
        LEAST,
        "wait later or less often: keep results on the device, or record an event and wait for it an iteration later",
        synchronising,
    ),
    Rule("data_loading", "waiting for data", LEAST, FURTHER_AHEAD, data_loading),
    Rule("waiting_for_threads", "waiting for another thread", LEAST, FURTHER_AHEAD, waiting_for_threads),
    Rule(
        "pageable_copies",
        "copies through pageable memory",
        LEAST,
        "pin the host memory (pin_memory=True, or torch.empty(..., pin_memory=True) once) and copy with non_blocking=True",
        pageable_copies,
    ),
    Rule(
        "exposed_copies",
        "copies that nothing hides",
        EXPOSED,
        "copy on a stream of its own, with two buffers, so that one batch is copied while another is computed",
        exposed_copies,
    ),
    Rule("small_copies", "many small copies", LEAST, "gather them on one side and copy once", small_copies),
    Rule(
        "exposed_communication",
        "communication that nothing hides",
        LEAST,
        "start each bucket's collective under the rest of backward, and balance the ranks where they wait",
        exposed_communication,
    ),
    Rule(
        "allocator_stalls",
        "allocator stalls",
        LEAST,
        "allocate once and reuse: no empty_cache() in the loop, fixed shapes, or expandable segments",
        allocator_stalls,
    ),
    Rule(
        "loading",
        "loading inside the window",
        LEAST,
        "warm up before what is measured: every kernel is loaded at its first launch",
        loading,
    ),
    Rule(
        "slow_iteration",
        "one slow iteration",
        LEAST,
        "look at it alone; if it is warm-up, leave it out (--skip N)",
        slow_iteration,
    ),
)
"""All rules; `find.find` ranks what they find."""


def _late_host(device: Device) -> str:
    """Which of the rules about a host that is late applies; empty: none."""
    if not _is_gpu(device):
        return ""
    kernels, kernel_ns = _kernels(device)
    short = kernels and kernel_ns / kernels < SHORT_NS
    if short and device.share(total(device.idle(*LAUNCHING))) >= LEAST / 2:
        return "launch_bound"
    gaps = _largest(device)
    after = gaps.filter(pl.col("opened_by") == "sync")
    most = after.height >= BLOCKED * gaps.height and int(after["ns"].sum()) >= BLOCKED * int(gaps["ns"].sum())
    return "blocked_by_syncs" if after.height and most else "host_bound"


def _largest(device: Device) -> pl.DataFrame:
    """The largest gaps in which the host is late."""
    gaps = device.of("gaps").filter(pl.col("cause").is_in(HOSTLY))
    return gaps.sort("ns", descending=True, maintain_order=True).head(GAPS)


def _ran(device: Device) -> str:
    """The function that the thread which launches ran most in the largest of these gaps, where CPU samples say it; else empty."""
    late = _largest(device).select("start_ns", "end_ns")
    ran = sampled(device.of("gap_functions").join(late, on=["start_ns", "end_ns"], how="semi"))
    return f"; in the longest such gaps it runs {ran.top()}" if ran is not None and ran.functions else ""


def _repeated(device: Device) -> str:
    """That every iteration launches as many kernels, in words: then one graph serves them all; empty where they differ."""
    each = device.of("iteration_kinds").filter(pl.col("kind") == "compute")["ops"]
    if len(each) < ENOUGH or each.n_unique() > 1:
        return ""
    return f", the same {each[0]:,} in each of {len(each):,} iterations"


def _waiting(device: Device) -> Seen:
    cells = device.idle("waiting")
    return Seen(
        cells, f"the device idles {duration(total(cells))} while the thread that launches waits for another one"
    )


def _loads(device: Device) -> bool:
    stage = stage_of(device.idle("waiting"))
    return stage is not None and LOADER.search(stage) is not None


def _pageable(device: Device) -> list[str]:
    """The directions whose copies are pageable, or nearly all of them by time: the ledger does not tell single copies apart."""
    table = device.of("bandwidth").with_columns(pl.col("kind").cast(pl.String))
    slow = pl.col("sum_ns").filter(pl.col("effective")).sum()
    by_kind = table.group_by("kind").agg((slow / pl.col("sum_ns").sum()).alias("part"))
    return sorted(by_kind.filter(pl.col("part") >= MOSTLY)["kind"].to_list())


def _small_prevail(device: Device) -> bool:
    """Whether small copies take nearly all of the copies' time."""
    table = device.of("bandwidth")
    every = int(table["sum_ns"].sum() or 0)
    return every > 0 and int(table.filter(pl.col("bucket").is_in(SMALL_COPIES))["sum_ns"].sum() or 0) >= MOSTLY * every


def _is_gpu(device: Device) -> bool:
    return bool((device.of("devices")["type"] == "gpu").all())


def _kernels(device: Device) -> tuple[int, int]:
    """(kernels of the window, their time)."""
    rows = device.of("kernel_counts").filter(pl.col("stage").is_null())
    return int(rows["kernels"].sum() or 0), int(rows["kernel_ns"].sum() or 0)
