"""What bounds a device's time: its busiest kind of work, and what hiding everything else would gain at most.

    compute   |------ 40 ------|    |------- 45 -------|        hidden completely, what is not compute leaves 85 of 100:
    h2d                         |-5-|                           at most 1.18 times as fast
    idle                                                |-10-|

The figure bounds arrangements alone: work of one kind that takes as long as here. Faster or less work of that kind gains more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from ...traces.phases import PHASES
from ..accounts.bound import bounds, mean_bound
from ..naming.kernels import short_names
from ..naming.paths import split
from ..result import IDLE, Analysis
from ..words import duration, percent, shorten
from .finding import STAGE_WIDTH, Device, Finding, capital, devices_of, total

NOTHING: Final = "Nothing stands out: no known problem costs enough of the window to be worth mentioning"

LIMITED: Final = 0.8
"""From this part of the window on, its compute is said to be what limits it: hiding all the rest gains 1.25x at most."""

WORTH: Final = 0.01
"""The least part of the window for a stage to be named."""

SHOWN: Final = 0.001
"""The least part that is not 0.0 % where it is shown."""

PARTS: Final = 3
"""Stages that are named."""

KERNEL: Final = 0.1
"""The least part of the kernels' time from which on the largest kernel is named."""

OPERATOR: Final = 0.03
"""The least part of the window for an operator of PyTorch to be named."""

OUTSIDE: Final = 0.1
"""The least part of an operator's time outside the stages that is said."""

FP32: Final = r"(?:^|[^0-9A-Za-z])sgemm(?:[^0-9a-z]|$)|_ffma_"
"""Names of matrix multiplications and convolutions in FP32 outside the tensor cores, by cuBLAS, cuDNN and CUTLASS, such as
``ampere_sgemm_128x64_tn``, ``cutlass_80_simt_sgemm_128x256_8x4_nt_align1`` and ``sm80_xmma_gemm_f32f32_f32f32_f32_..._ffma_...``.
Those of the tensor cores say ``s1688gemm``, ``s16816gemm``, ``tensor16x8x8`` or ``nvjet``."""

MUCH: Final = 0.3
"""The least part of the kernels' time in such kernels that is said: it is a floor, of the kernels that the analysis lists."""

COPIES: Final = ("h2d", "d2h", "p2p", "d2d", "h2h", "memset", "migration")

_OTHERS: Final = (("copies", COPIES), ("communication", ("comm",)))


@dataclass(frozen=True, slots=True)
class Hiding:
    """An iteration of a device takes `measured_ns` on average, its busiest `kind` of work alone `alone_ns`: hiding everything
    else makes it `gain` times as fast at most. `between`: what lies between two iterations is in `measured_ns`, too."""

    kind: str
    measured_ns: float
    alone_ns: float
    between: bool

    @property
    def gain(self) -> float:
        return self.measured_ns / self.alone_ns


def hiding(analysis: Analysis, device: int) -> Hiding | None:
    """What hiding everything but its busiest kind of work would gain `device`; null without iterations, where graphs were
    recorded whole in all of them, and for a device that did nothing.

    Where iterations are the window it is the window's time over that kind's union, so that it compares with what a part of the
    window costs; else that of the iterations alone.
    """
    kind = next((one.kind for one in bounds(analysis) if one.device == device), None)
    if kind is None:
        return None
    for seen in devices_of(analysis):
        if seen.device == device and seen.iterations and seen.busy("graph").is_empty():
            # Compute ranks above all that can hide under it; only migrations, which stall it, are taken off.
            alone = total(seen.busy(kind)) if kind == "compute" else _union(seen, kind)
            return Hiding(kind, seen.window_ns / seen.iterations, alone / seen.iterations, True) if alone else None
    alone_ns, measured_ns = mean_bound(analysis, device, kind)
    return Hiding(kind, measured_ns, alone_ns, False) if alone_ns else None


def most_words(analysis: Analysis) -> str:
    """What hiding everything else would gain at most, after a semicolon, where one device worked; else empty: a bound that needs
    no replay."""
    worked = [
        one for one in (hiding(analysis, device) for device in analysis.devices["device"].to_list()) if one is not None
    ]
    if len(worked) != 1:
        return ""
    return f"; hiding all but {worked[0].kind} would make an iteration at most {worked[0].gain:.2f}x as fast"


def _union(device: Device, kind: str) -> int:
    return int(device.of("kinds").filter(pl.col("kind") == kind)["union_ns"].sum())


def limit_sentences(analysis: Analysis, found: Sequence[Finding] = ()) -> Iterator[str]:
    """What the window consists of, and what hiding all but compute would gain at most, of the device that computes most. Where
    rules `found` something, only if compute limits the window all the same; where the ledger cannot be believed, only that
    nothing was found."""
    ledger = analysis.trust.filter((pl.col("metric") == "ledger") & (pl.col("level") == "unavailable"))
    every = [one for one in devices_of(analysis) if total(one.busy("compute", "graph"))]
    if not every or ledger.height:
        if not found:
            yield f"{NOTHING}."
        return
    device = max(every, key=lambda one: (one.share(total(one.busy("compute", "graph"))), -one.device))
    computes, graphs = total(device.busy("compute", "graph")), total(device.busy("graph"))
    share = device.share(computes)
    if found and (share < LIMITED or max(one.share for one in found) > 1 - LIMITED):
        return
    lead = NOTHING
    if share >= LIMITED:
        lead = f"{'Beyond that, limited' if found else 'Limited'} by {'CUDA graphs' if 2 * graphs > computes else 'compute'}"
    whose = _whose(device, len(every) > 1)
    if device.analysis.host_only:
        said = f"{whose} spends {percent(share)} of its time in stages that compute{_stages(device)}"
    else:
        said = f"{whose} is {percent(share)} {_work(computes, graphs)}{_stages(device)}"
    what = _operators(device.analysis) if device.analysis.host_only else _kernel(device) + _without_tensor_cores(device)
    yield f"{lead}. {said}{_rest(device, share, graphs)}.{what}"


def _whose(device: Device, several: bool) -> str:
    what = capital(device.unit)
    return f"{what} of device {device.device}" if several else what


def _work(computes: int, graphs: int) -> str:
    """Compute, by what the evidence for it is."""
    if not graphs:
        return "compute"
    if graphs == computes:
        return "CUDA graphs, recorded whole with the gaps inside them"
    return "compute, CUDA graphs with the gaps inside them included"


def _stages(device: Device) -> str:
    """`` (backward 49.1 %, forward 40.2 %)``: the stages that compute, by their last names where these differ."""
    cells = device.busy("compute", "graph")
    each = cells.group_by("stage").agg(pl.col("ns").sum()).sort(["ns", "stage"], descending=[True, False])
    named = each.filter(~pl.col("stage").str.starts_with("("))
    rows = [(path, ns) for path, ns in named.head(PARTS).rows() if device.share(ns) >= WORTH]
    if not rows:
        return ""
    if len(each) == 1:
        return f", all of it in {shorten(rows[0][0], STAGE_WIDTH)}"
    last = [split(path)[-1] for path, _ in rows]
    names = last if len(set(last)) == len(last) else [path for path, _ in rows]
    told = [f"{shorten(n, STAGE_WIDTH)} {percent(device.share(ns))}" for n, (_, ns) in zip(names, rows, strict=True)]
    return f" ({', '.join(told)}{', ...' if len(each) > len(rows) else ''})"


def _rest(device: Device, share: float, graphs: int) -> str:
    """What the rest is, and what hiding it would gain at most."""
    host = device.analysis.host_only
    named = [(name, total(device.busy(*kinds))) for name, kinds in _OTHERS]
    named.append(("other time" if host else "gaps", total(device.busy(IDLE))))
    told = [f"{name} {percent(device.share(ns))}" for name, ns in named if device.share(ns) >= SHOWN]
    if not told:
        return " and has no gaps worth mentioning"
    listed = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
    more = "less or faster computation" if host else "faster or fewer kernels"
    if graphs:
        more += ", or shorter gaps inside the graphs (which nsys --cuda-graph-trace=node records),"
    return (
        f"; the rest is {listed}. Hiding all the rest would make {device.unit} at most {1 / share:.2f}x as fast; only {more} "
        f"gain{'s' if host else ''} more"
    )


def _operators(analysis: Analysis) -> str:
    """PyTorch's operators that take most, after a space, or how to record them; empty where none takes a fair part, or the
    program is not known to call any."""
    if analysis.operators.is_empty():
        if analysis.choices.domain != PHASES or analysis.meta.recorder != "nsys":
            return ""
        record = "`aisp-trace capture --recorder torch` also records PyTorch's operators, which say what computes"
        return f" {record}; it slows the program, so take a few seconds (`--duration 10`)."
    length = sum(end - start for _, start, end in analysis.windows.rows())
    rows = analysis.operators.filter(pl.col("self_ns") >= OPERATOR * length).head(PARTS)
    told = [
        f"{shorten(name, STAGE_WIDTH)} {duration(own)} ({calls:,} {'call' if calls == 1 else 'calls'}"
        + (f", {percent(outside / own, 0)} of it outside the stages)" if outside >= OUTSIDE * own else ")")
        for name, own, calls, outside in rows.select("name", "self_ns", "calls", "outside_ns").rows()
    ]
    return f" PyTorch's operators that take most by themselves: {', '.join(told)}." if told else ""


def _kernel(device: Device) -> str:
    """The kernel that takes most, after a space; empty where none was recorded, or none takes a fair part."""
    rows = device.of("top_kernels").filter(pl.col("stage").is_null())
    if rows.is_empty() or (rows["share"][0] or 0) < KERNEL:
        return ""
    name = short_names(rows["name"].to_list())[rows["name"][0]]
    if rows.height == 1:
        return f" Its only kernel is {shorten(name, 2 * STAGE_WIDTH)}."
    return f" The largest kernel, {shorten(name, 2 * STAGE_WIDTH)}, takes {percent(rows['share'][0])} of the kernels' time."


def _without_tensor_cores(device: Device) -> str:
    """That kernels multiply in FP32 on a GPU with tensor cores, after a space; empty where these take no large part."""
    rows = device.of("top_kernels").filter(pl.col("stage").is_null(), pl.col("name").str.contains(FP32))
    share = float(rows["share"].sum() or 0)
    if share < MUCH:
        return ""
    return (
        f" {percent(share)} of the kernels' time is FP32 matrix multiplication without tensor cores; in PyTorch, "
        "torch.set_float32_matmul_precision('high') (TF32) or autocast to bfloat16 uses them, at lower precision."
    )
