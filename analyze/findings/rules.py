"""The rules: each names one thing that costs a device a known part of its window, and what to do about it.

A rule rests on cells of the exact ledger, and no two rules on the same cell, so no instant is counted twice; only
`slow_iteration` looks at the same time from another side. What a rule would save at most is the sum of its cells: a change that
takes them away and puts nothing in their place saves that, and no change of what the rule names saves more.

A rule is silent below its share of the window. The shares are those at which this project's own case studies, whose bottlenecks
are known by construction, are told from their optimised variants (tests/test_findings.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from ..result import CAUSES
from ..words import duration, rate, size
from .finding import Device, Finding, Rule, stage_of, total

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

SLOW: Final = 1.5
"""An iteration this many times the median is an outlier."""

ENOUGH: Final = 5
"""Iterations that make a median worth comparing with."""


def launch_bound(device: Device) -> Iterator[Finding]:
    """The device waits for launches of kernels that are shorter than launching them."""
    cells = device.idle(*HOSTLY)
    kernels, kernel_ns = _kernels(device)
    if not _is_gpu(device) or not kernels or kernel_ns / kernels >= SHORT_NS:
        return
    if device.share(total(device.idle(*LAUNCHING))) < LEAST / 2:
        return
    evidence = (
        f"{kernels:,} kernels of {duration(kernel_ns / kernels)} on average; the device waits for the next launch "
        f"{device.part(cells)} of the time"
    )
    yield from _if_costly(
        device,
        cells,
        HOST,
        "launch_bound",
        "launch-bound",
        evidence,
        "launch many kernels at once: a CUDA graph, torch.compile(mode='reduce-overhead'), or fewer, larger kernels",
    )


def host_bound(device: Device) -> Iterator[Finding]:
    """The device waits for the host, whose kernels are long enough or whose launches are not what takes the time."""
    if not _is_gpu(device) or list(launch_bound(device)):
        return
    cells = device.idle(*HOSTLY)
    gaps = device.of("gaps").sort("ns", descending=True, maintain_order=True).head(GAPS)
    synced = gaps.filter(pl.col("opened_by") == "sync").height
    told = f"; {synced} of the {gaps.height} largest gaps begin while the host waits for the device" if synced else ""
    evidence = f"the device has nothing queued {device.part(cells)} of the time, while the host works{told}"
    yield from _if_costly(
        device,
        cells,
        HOST,
        "host_bound",
        "waiting for the host",
        evidence,
        "queue work ahead: wait for results less often (.item(), print, synchronize), and move host work to another thread",
    )


def synchronising(device: Device) -> Iterator[Finding]:
    """The host waits for the device, and the device then for the host."""
    cells = device.idle("sync")
    evidence = f"the device idles {duration(total(cells))} while the host is still inside a synchronising call"
    yield from _if_costly(
        device,
        cells,
        LEAST,
        "synchronising",
        "idle inside synchronising calls",
        evidence,
        "wait later or less often: keep results on the device, or record an event and wait for it an iteration later",
    )


def waiting_for_threads(device: Device) -> Iterator[Finding]:
    """The thread that launches waits for another one, and the device for both."""
    cells = device.idle("waiting")
    evidence = f"the device idles {duration(total(cells))} while the thread that launches waits for another one"
    yield from _if_costly(
        device,
        cells,
        LEAST,
        "waiting_for_threads",
        "waiting for another thread",
        evidence,
        "let that thread run further ahead (prefetch_factor, a longer queue), share its work among more, or give it less to do",
    )


def pageable_copies(device: Device) -> Iterator[Finding]:
    """Copies to and from pageable host memory, which the driver stages and the host waits for."""
    table = device.of("bandwidth")
    slow = table.filter(pl.col("effective"))
    moved, spent = int(slow["nbytes"].sum()), int(slow["sum_ns"].sum())
    if not spent or _small_prevail(device):
        return
    cells = pl.concat([device.idle("copy_api"), device.busy(*_pageable(device))])
    evidence = f"{size(moved)} move through pageable memory at {rate(moved / spent * 1e9)} GB/s"
    yield from _if_costly(
        device,
        cells,
        LEAST,
        "pageable_copies",
        "copies through pageable memory",
        evidence,
        "pin the host memory (pin_memory=True, or torch.empty(..., pin_memory=True) once) and copy with non_blocking=True",
    )


def exposed_copies(device: Device) -> Iterator[Finding]:
    """Copies between pinned or device memory that nothing runs beside."""
    if _small_prevail(device):
        return
    cells = device.busy(*(kind for kind in COPIES if kind not in _pageable(device)))
    kinds = ", ".join(sorted(set(cells["category"].to_list())))
    evidence = f"{kinds} run while nothing computes, {device.part(cells)} of the time"
    yield from _if_costly(
        device,
        cells,
        EXPOSED,
        "exposed_copies",
        "copies that nothing hides",
        evidence,
        "copy on a stream of its own, with two buffers, so that one batch is copied while another is computed",
    )


def small_copies(device: Device) -> Iterator[Finding]:
    """Many copies of few bytes, whose cost is the call."""
    if not _small_prevail(device):
        return
    small = device.of("bandwidth").filter(pl.col("bucket").is_in(SMALL_COPIES))
    ops = int(small["ops"].sum())
    cells = pl.concat([device.busy(*COPIES), device.idle("copy_api")])
    evidence = f"{ops:,} copies carry {size(int(small['nbytes'].sum()) / ops)} on average"
    yield from _if_costly(
        device,
        cells,
        LEAST,
        "small_copies",
        "many small copies",
        evidence,
        "gather them on one side and copy once",
    )


def exposed_communication(device: Device) -> Iterator[Finding]:
    """Collectives that nothing runs beside, and how much of them waits for another rank."""
    cells = device.busy("comm")
    table = device.of("collectives")
    waits = int(table["comm_wait_ns"].sum() or 0)
    waiting = f", and {duration(waits)} of all collectives wait for the last rank to begin" if waits else ""
    evidence = f"collectives run while nothing computes, {device.part(cells)} of the time{waiting}"
    yield from _if_costly(
        device,
        cells,
        LEAST,
        "exposed_communication",
        "communication that nothing hides",
        evidence,
        "start each bucket's collective under the rest of backward, and balance the ranks where they wait",
    )


def allocator_stalls(device: Device) -> Iterator[Finding]:
    """The device waits while the host allocates or frees memory."""
    cells = device.idle("allocator")
    calls = int(device.analysis.allocator["calls"].sum() or 0)
    evidence = f"the device waits for allocator calls ({calls:,} in the window) {device.part(cells)} of the time"
    yield from _if_costly(
        device,
        cells,
        LEAST,
        "allocator_stalls",
        "allocator stalls",
        evidence,
        "allocate once and reuse: no empty_cache() in the loop, fixed shapes, or expandable segments",
    )


def loading(device: Device) -> Iterator[Finding]:
    """Kernels are loaded, modules compiled or graphs built inside the window."""
    cells = device.idle(*LOADING)
    evidence = f"the device waits while kernels are loaded or graphs built, {device.part(cells)} of the time"
    yield from _if_costly(
        device,
        cells,
        LEAST,
        "loading",
        "loading inside the window",
        evidence,
        "warm up before what is measured: every kernel is loaded at its first launch",
    )


def slow_iteration(device: Device) -> Iterator[Finding]:
    """One iteration that takes much longer than the others, and the cells that it has more of."""
    cells = device.ledger.drop_nulls("iteration")
    each = cells.group_by("iteration").agg(pl.col("ns").sum()).sort(["ns", "iteration"])
    if each.height < ENOUGH:
        return
    median, slowest = int(each["ns"][(each.height - 1) // 2]), int(each["ns"][-1])
    if slowest < SLOW * median:
        return
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
    first = more.sort(["more", "stage"], descending=[True, False]).row(0, named=True)
    cause = f"idle ({first['cause']})" if first["cause"] else first["category"]
    saving = slowest - median
    if device.share(saving) < LEAST:
        return
    yield Finding(
        "slow_iteration",
        device.device,
        None if first["stage"].startswith("(") else first["stage"],
        "one slow iteration",
        f"iteration {number} takes {duration(slowest)}, the median one {duration(median)}; {cause} is "
        f"{duration(first['more'])} more",
        saving,
        device.share(saving),
        f"look at it alone (--window 'iteration#{number}'); if it is warm-up, leave it out",
    )


RULES: Final[tuple[Rule, ...]] = (
    launch_bound,
    host_bound,
    synchronising,
    waiting_for_threads,
    pageable_copies,
    exposed_copies,
    small_copies,
    exposed_communication,
    allocator_stalls,
    loading,
    slow_iteration,
)
"""All rules; `finding.find` ranks what they find."""


def _if_costly(
    device: Device, cells: pl.DataFrame, least: float, rule: str, what: str, evidence: str, remedy: str
) -> Iterator[Finding]:
    """The finding on `cells`, if they are at least `least` of the window, and the analysis trusts their causes."""
    saving = total(cells)
    share = device.share(saving)
    if share < least or (cells["cause"].is_in(CAUSES).any() and _distrusted(device)):
        return
    yield Finding(rule, device.device, stage_of(cells), what, evidence, saving, share, remedy)


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


def _distrusted(device: Device) -> bool:
    rows = device.analysis.trust.filter(pl.col("metric") == "causes")
    return bool((rows["level"] == "unavailable").any())


def _is_gpu(device: Device) -> bool:
    return bool((device.of("devices")["type"] == "gpu").all())


def _kernels(device: Device) -> tuple[int, int]:
    """(kernels of the window, their time)."""
    rows = device.of("kernel_counts").filter(pl.col("stage").is_null())
    return int(rows["kernels"].sum() or 0), int(rows["kernel_ns"].sum() or 0)
