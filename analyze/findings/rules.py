"""The rules: each names one thing that costs a device a known part of its window, and what to do about it.

A rule rests on cells of the exact ledger, and no two rules on the same cell, so no instant is counted twice; only
`slow_iteration`, `contention` and `low_clocks` look at the same time from another side. What a rule would save at most is the
sum of its cells: a change that takes them away and puts nothing in their place saves that, and no change of what the rule names
saves more.

A rule is silent below its share of the window. The shares are those at which this project's own case studies, whose bottlenecks
are known by construction, separate from their optimised variants (tests/test_findings.py).
"""

from __future__ import annotations

import re
import shlex
from typing import Final

import polars as pl

from ...traces.stage_domain import OPERATORS
from ..accounts.counters import CLOCK
from ..attribution.calls import SYNC, classify
from ..ran import code_top, sampled
from ..result import CAUSES, SCHEMAS, Analysis
from ..steady import in_bunches
from ..words import LOADER, duration, percent, rate, shorten, size
from .beside import slowed
from .finding import STAGE_WIDTH, Device, Rule, Seen, stage_of, total
from .loader import always_ready
from .slow import more_of

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
LOW: Final = 0.9
"""Below this share of its full clock, while it works, a device is slow for a reason of its own."""

TINY_NS: Final = 10_000
"""Kernels shorter than this on average cost a fair part of their time between each other, however they are launched."""

COPIES: Final = ("h2d", "d2h", "d2d", "p2p")
SMALL_COPIES: Final = ("<4KiB", "4-64KiB")

GAPS: Final = 20
"""The largest gaps, of which it is said how they began."""

BLOCKED: Final = 0.5
"""From this part of the largest gaps on, by number and by time, those that begin as the host returns from waiting are why it is
late."""

_LOADS: Final = pl.col("stage").str.contains(LOADER)
"""Of cells and gaps: those of stages that prepare batches."""

RANDOM: Final = re.compile(r"(^|/)aten::(rand|normal|uniform|bernoulli|exponential|multinomial)[^/]*$")
"""Operators that make random numbers, which initialise weights and made-up inputs: slow on a CPU, and no loop's work."""

OTHERS: Final = 6
"""Further slow iterations that are named."""

SLOW: Final = 1.5
"""An iteration this many times the median is an outlier."""

ENOUGH: Final = 5
"""Iterations that make a median worth comparing with."""


def launch_bound(device: Device) -> Seen | None:
    """The device waits for launches of kernels that are shorter than launching them."""
    if _late_host(device) != "launch_bound":
        return None
    cells = _late(device)
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
    cells = _late(device)
    gaps = _largest(device)
    after = gaps.filter(pl.col("opened_by") == "sync")
    call = _call_of(device, after) or "waiting for the device"
    return Seen(
        cells,
        f"the device has nothing queued {device.part(cells)} of the time; {after.height} of the {gaps.height} largest gaps "
        f"({duration(int(after['ns'].sum()))}) begin as the host returns from {call}",
    )


def host_bound(device: Device) -> Seen | None:
    """The device waits for the host, for none of the other reasons."""
    if _late_host(device) != "host_bound":
        return None
    cells = _late(device)
    return Seen(
        cells,
        f"the device has nothing queued {device.part(cells)} of the time, while the host works{_ran(device)}"
        f"{_unnamed(device)}",
        remedy=_set_up(device, cells),
    )


def synchronising(device: Device) -> Seen | None:
    """The host waits for the device, and the device then for the host."""
    cells = device.idle("sync")
    call = _call_of(device, device.of("gaps").filter(pl.col("cause") == "sync")) or "a synchronising call"
    return Seen(cells, f"the device idles {duration(total(cells))} while the host is still inside {call}")


def data_loading(device: Device) -> Seen | None:
    """The device waits while batches are prepared, by the thread that launches or by one that it waits for."""
    cells = device.idle(*HOSTLY, "waiting").filter(_LOADS)
    other = total(cells.filter(pl.col("cause") == "waiting"))
    if device.analysis.host_only:
        said = f"the loop waits for its next batch {device.part(cells)} of the time"
    else:
        said = f"the device has nothing queued {device.part(cells)} of the time, while batches are prepared"
    thread = f" ({duration(other)} of it by another thread)" if other else ""
    return Seen(cells, f"{said}{thread}{always_ready(device, total(cells))}")


def waiting_for_threads(device: Device) -> Seen | None:
    """The thread that launches waits for another one, and the device for both."""
    cells = device.idle("waiting").filter(~_LOADS)
    said = f"the device idles {duration(total(cells))} while the thread that launches waits for another one"
    return Seen(cells, said)


def waiting_for_devices(device: Device) -> Seen | None:
    """What is queued waits for work of another device."""
    cells = device.idle("dependency")
    return Seen(cells, f"queued work waits for another device {device.part(cells)} of the time")


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
    return Seen(cells, f"copies ({kinds}) run while nothing computes, {device.part(cells)} of the time")


def migrations(device: Device) -> Seen | None:
    """Pages of unified memory that move because somebody touches them; kernels and the host wait meanwhile."""
    rows = device.of("migrations").filter(pl.col("stage").is_null())
    if rows.is_empty():
        return None
    moved = rows.row(0, named=True)
    faults = device.idle("page_fault")
    waited = [(moved["stall_ns"], "kernels stall for"), (total(faults) + moved["exposed_ns"], "the host waits for")]
    said = ", ".join(f"{words} {duration(ns)}" for ns, words in waited if ns)
    between = ". Between two pages a kernel waits, too; that counts as compute" if moved["stall_ns"] else ""
    return Seen(
        pl.concat([device.busy("migration"), faults]),
        f"{moved['ops']:,} page migrations move {size(moved['nbytes'])}: {said}{between}",
    )


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
    return Seen(
        cells, f"collectives run while nothing computes, {device.part(cells)} of the time{waiting}{_unmatched(device)}"
    )


def tiny_kernels(device: Device) -> Seen | None:
    """The device pauses from one short kernel to the next although more are queued."""
    kernels, kernel_ns = _kernels(device)
    if not kernels or kernel_ns / kernels >= TINY_NS:
        return None
    cells = device.idle("queued", "graph_internal")
    return Seen(
        cells,
        f"{kernels:,} kernels of {duration(kernel_ns / kernels)} on average; the device pauses between them "
        f"{device.part(cells)} of the time, though the next one is queued",
    )


def low_clocks(device: Device) -> Seen | None:
    """The device's clock is low while it works."""
    rows = device.of("counters").filter(pl.col("metric") == CLOCK)
    busy = rows.filter(pl.col("stage").is_not_null() & (pl.col("stage") != "(idle)")).drop_nulls("percent")
    ns = int(busy["ns"].sum())
    if not ns:
        return None
    mean = float((busy["percent"] * busy["ns"]).sum()) / ns / 100
    cells = device.busy("compute", "graph")
    saving = round(total(cells) * (1 - mean)) if mean < LOW else 0
    return Seen(cells, f"while the device works, its clock is {percent(mean)} of full speed on average", saving)


def unexplained(device: Device) -> Seen | None:
    """Idle time of which the trace does not say what it waits for: all of it where nobody can believe the causes."""
    cells = device.idle(*(CAUSES if device.causes_unknown else ("unknown",)))
    said = f"nothing in the trace says what the device waits for, {device.part(cells)} of the time"
    return Seen(cells, said, total(cells))  # no cause is blamed, so this is reported where causes are not known, too


def contention(device: Device) -> Seen | None:
    """Kernels that take longer because something else runs beside them; or that share the device, and nobody can tell."""
    rows = device.of("contention")
    stages, whole = rows.drop_nulls("stage"), rows.filter(pl.col("stage").is_null())
    extra = min(int(whole["extra_ns"].sum()), total(device.busy("compute")))
    if device.share(extra) >= LEAST:
        sentences = "; ".join(slowed(device.analysis, device.device))
        return Seen(stages.select("stage", pl.col("extra_ns").alias("ns")), sentences, extra)
    unknown = whole.filter((pl.col("beside") == "compute") & (pl.col("compared") == 0))
    if unknown.is_empty():
        return None
    where = stages.filter(pl.col("beside") == "compute").sort(["beside_ns", "stage"], descending=[True, False])
    names = " and ".join(shorten(stage, STAGE_WIDTH) for stage in where["stage"].head(2))
    return Seen(
        where.select("stage", pl.col("beside_ns").alias("ns")),
        f"{unknown['kernels'][0]:,} kernels of several streams run at once{f' ({names})' if names else ''}; none of them was "
        "seen alone, so the trace cannot say how much each is slowed",
        min(
            int(unknown["beside_ns"][0]) // 2, total(device.busy("compute"))
        ),  # of all streams: more than the device's own
    )


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
    more = more_of(device.ledger, number)
    if more is None or in_bunches(each["ns"].to_list()):
        return None
    first = pl.DataFrame([(more.stage, more.category, more.cause, more.ns)], schema=_CELLS, orient="row")
    others = sorted(each.filter(pl.col("ns") >= SLOW * median)["iteration"].head(-1).to_list())
    named = ", ".join(map(str, others[:OTHERS])) + (f" and {len(others) - OTHERS} more" if len(others) > OTHERS else "")
    too = (
        f"; {'others take' if len(others) > 1 else 'another takes'} over {SLOW:g} times the median, too: {named}"
        if others
        else ""
    )
    return Seen(
        first,
        f"iteration {number} takes {duration(slowest)}, the median one {duration(median)}{too}; "
        f"{more.what} is {duration(more.more_ns)} more",
        slowest - median,
        number,
    )


_CELLS: Final = {name: SCHEMAS["ledger"][name] for name in ("stage", "category", "cause", "ns")}

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "launch_bound",
        "launch-bound",
        HOST,
        "launch many kernels at once: a CUDA graph, torch.compile(mode='reduce-overhead'), or fewer, larger kernels",
        launch_bound,
        "graph:",
    ),
    Rule(
        "blocked_by_syncs",
        "the host waits for the device, then the device for the host",
        HOST,
        "wait for results less often (.item(), .cpu(), print, synchronize), or an iteration later, so that work stays queued",
        blocked_by_syncs,
        "syncs",
    ),
    Rule(
        "host_bound",
        "waiting for the host",
        HOST,
        "queue work ahead, and move host work out of the loop or to another thread",
        host_bound,
        "host:",
    ),
    Rule(
        "synchronising",
        "idle inside synchronising calls",
        LEAST,
        "wait later or less often: keep results on the device, or record an event and wait for it an iteration later",
        synchronising,
        "syncs",
    ),
    Rule(
        "data_loading",
        "waiting for data",
        LEAST,
        "have batches ready before they are needed: more workers of the loader or a longer queue (num_workers, "
        "prefetch_factor), a thread that runs ahead, or cheaper batches",
        data_loading,
    ),
    Rule(
        "waiting_for_threads",
        "waiting for another thread",
        LEAST,
        "let that thread run ahead (a longer queue), share its work among more threads, or give it less",
        waiting_for_threads,
    ),
    Rule(
        "waiting_for_devices",
        "waiting for another device",
        LEAST,
        "hand work over in smaller parts, so that both devices work at the same time, or give the other one less",
        waiting_for_devices,
    ),
    Rule(
        "pageable_copies",
        "copies through pageable memory",
        LEAST,
        "pin the host memory (pin_memory=True, or torch.empty(..., pin_memory=True) once) and copy with non_blocking=True",
        pageable_copies,
        "copies:overlap",
    ),
    Rule(
        "exposed_copies",
        "copies that nothing hides",
        EXPOSED,
        "copy on a stream of its own, with two buffers, so that one batch is copied while another is computed",
        exposed_copies,
        "copies:overlap",
    ),
    Rule(
        "migrations",
        "unified-memory migrations",
        LEAST,
        "prefetch them before they are touched (cudaMemPrefetchAsync), or use cudaMalloc and copies of your own",
        migrations,
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
        "contention",
        "contention",
        LEAST,
        "leave kernels more of the device (NCCL_MAX_CTAS for collectives, fewer streams at once), or move what runs beside "
        "them to where less computes",
        contention,
    ),
    Rule(
        "allocator_stalls",
        "allocator stalls",
        LEAST,
        "allocate once and reuse: no empty_cache() in the loop, fixed shapes, or expandable segments",
        allocator_stalls,
        "allocator",
    ),
    Rule(
        "loading",
        "loading inside the window",
        LEAST,
        "warm up before what is measured: every kernel is loaded at its first launch",
        loading,
    ),
    Rule(
        "tiny_kernels",
        "pauses between tiny kernels",
        LEAST,
        "fuse them (torch.compile, a kernel that does several steps), so that fewer and longer ones run",
        tiny_kernels,
    ),
    Rule(
        "low_clocks",
        "low clocks",
        LEAST,
        "see what holds the clock down (nvidia-smi -q -d PERFORMANCE: power, heat), or warm up before what is measured",
        low_clocks,
    ),
    Rule(
        "unexplained",
        "unexplained idle time",
        HOST,
        "record the calls that launch, too (the notes at the end say what the trace lacks)",
        unexplained,
    ),
    Rule(
        "slow_iteration",
        "a slow iteration",
        LEAST,
        "look at it alone; if it is warm-up, at the start of the loop, leave it out (--skip N)",
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


def _late(device: Device) -> pl.DataFrame:
    """The cells in which the host is late for any other reason than data."""
    return device.idle(*HOSTLY).filter(~_LOADS)


def _largest(device: Device) -> pl.DataFrame:
    """The largest gaps in which the host is late."""
    gaps = device.of("gaps").filter(pl.col("cause").is_in(HOSTLY) & ~_LOADS)
    return gaps.sort("ns", descending=True, maintain_order=True).head(GAPS)


def _call_of(device: Device, gaps: pl.DataFrame) -> str:
    """The synchronising call that most of these gaps share an instant with; empty where none is recorded."""
    here = device.of("gap_calls").join(gaps, on=["start_ns", "end_ns"], how="semi")
    waits = [name for name in here["name"].unique().to_list() if classify(name) == SYNC]
    calls = here.filter((pl.col("source") == "cuda") & pl.col("name").is_in(waits))
    most = calls.group_by("name").agg(pl.len().alias("n"), pl.col("ns").sum())
    most = most.sort(["n", "ns", "name"], descending=[True, True, False])
    return "" if most.is_empty() else str(most["name"][0])


def _ran(device: Device) -> str:
    """The function that the thread which launches ran most in the largest of these gaps, where CPU samples or torch.profiler
    say it; else empty."""
    late = _largest(device).select("start_ns", "end_ns")
    here = {
        name: device.of(name).join(late, on=["start_ns", "end_ns"], how="semi")
        for name in ("gap_functions", "gap_code")
    }
    ran = sampled(here["gap_functions"])
    known = late.select(pl.col("end_ns") - pl.col("start_ns")).to_series().sum()
    top = ran.top() if ran is not None and ran.functions else code_top(here["gap_code"], int(known))
    return f"; in the longest such gaps it runs {top}" if top else ""


def _unnamed(device: Device) -> str:
    """What to name, in words, where the trace has neither iterations nor stages; else empty: set-up and the loop are one then."""
    analysis = device.analysis
    if not (analysis.iterations.is_empty() and analysis.stages.is_empty() and analysis.steady is None):
        return ""
    others = analysis.domains.filter(pl.col("domain") != "").sort("ranges", descending=True, maintain_order=True)
    domain = [f"--domain {shlex.quote(name)}" for name in others["domain"].head(1)]
    *first, last = ["stage() in the program", "--iterations REGEX", *domain]
    return (
        "; set-up counts with it, since the trace names neither iterations nor stages: "
        f"{', '.join(first)} or {last} tells them apart"
    )


def _set_up(device: Device, cells: pl.DataFrame) -> str:
    """What to do where it may be set-up, since the program names neither iterations nor stages; else empty: the rule's remedy."""
    analysis = device.analysis
    named = not analysis.stages.is_empty() and analysis.choices.domain != OPERATORS
    if named or analysis.steady is not None or not analysis.iterations.is_empty():
        return ""
    stage, share = stage_of(cells)
    random = stage is not None and (share or 0) >= BLOCKED and RANDOM.search(stage)
    made = (
        "make random numbers on the device (device='cuda')"
        if random
        else "queue work ahead, or move host work to another thread"
    )
    return f"{made}; if it is set-up, leave it out of the recording, or of what is counted (--window)"


def _repeated(device: Device) -> str:
    """That every iteration launches as many kernels, in words: then one graph serves them all; empty where they differ."""
    each = device.of("iteration_kinds").filter(pl.col("kind") == "compute")["ops"]
    if len(each) < ENOUGH or each.n_unique() > 1:
        return ""
    return f", the same {each[0]:,} in each of {len(each):,} iterations"


def _pageable(device: Device) -> list[str]:
    """The directions of which nearly all copies, by time, are pageable: the ledger does not tell single copies apart."""
    table = device.of("bandwidth").with_columns(pl.col("kind").cast(pl.String))
    part = pl.col("sum_ns").filter(pl.col("effective")).sum() / pl.col("sum_ns").sum()
    by_kind = table.group_by("kind").agg(part.alias("part"))
    return sorted(by_kind.filter(pl.col("part") >= MOSTLY)["kind"].to_list())


def _small_prevail(device: Device) -> bool:
    """Whether small copies take nearly all of the copies' time."""
    table = device.of("bandwidth")
    every = int(table["sum_ns"].sum() or 0)
    return every > 0 and int(table.filter(pl.col("bucket").is_in(SMALL_COPIES))["sum_ns"].sum() or 0) >= MOSTLY * every


def _unmatched(device: Device) -> str:
    """What the time of collectives may be where none was matched with another rank's, after a semicolon; empty where some were,
    and for groups of one."""
    if not waits_unknown(device.analysis, device.device):
        return ""
    several = device.analysis.collectives["device"].n_unique() > 1
    return (
        "; a collective lasts until the slowest rank has come, so this may be waiting for another rank, "
        f"{'but none could be matched' if several else 'and this trace holds one rank alone'}: `aisp-trace ranks` on the traces "
        "of all ranks says who was late"
    )


def waits_unknown(analysis: Analysis, device: int) -> bool:
    """Whether `device` ran collectives with other ranks, none of which was matched: nobody can tell transfer from waiting."""
    rows = analysis.collectives.filter(pl.col("device") == device)
    alone = (rows["group_size"] == 1).fill_null(value=False).all()
    return not rows.is_empty() and not int(rows["paired"].sum()) and not alone


def _is_gpu(device: Device) -> bool:
    return bool((device.of("devices")["type"] == "gpu").all())


def _kernels(device: Device) -> tuple[int, int]:
    """(kernels of the window, their time)."""
    rows = device.of("kernel_counts").filter(pl.col("stage").is_null())
    return int(rows["kernels"].sum() or 0), int(rows["kernel_ns"].sum() or 0)
