"""Faster than the hardware can be: the least time that an iteration's work takes at the machine's peaks. Pure.

    required work and copies of an iteration            peaks of all GPUs of the machine
    ------------------------------------------------    ------------------------------------------------------------
    FLOPs                                             / tensor cores in 8 bits with sparsity, by the data sheet
    input and output bytes, less what caches may keep / device memory: clock times width, else the data sheet
    bytes that the variant's copies carry, h2d or d2h / the link in that direction, by the data sheet
    the same, p2p                                     / all links between the GPUs, as calibrated, and `ROOM`

The longest of these is the limit. What a peak of another kind would give is left out: it would not be certain.

FLOPs go by the fastest type of all, whatever the tolerance says. Inputs may be exact in a narrow type, and a product of wide ones
can be split into narrow ones (three of bf16 come near fp32), so neither a type nor a tolerance bounds the time.
Twice the dense rate, since a model's FLOPs may count what need not be done (attention in full where half is masked) and
clocks go above the data sheet's (an H200's 1,980 MHz against 1,830).

A link's or memory's peak is the data sheet's, which nothing exceeds. Where none is known, or the calibration exceeded it, it is
what the calibration reached, times `ROOM`. Every iteration is bounded, so mean and median are too little: a variant that leaves
out every fourth iteration hides in both. The second fastest counts: one alone may be a slip of the clock, two are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...analyze.accounts.peaks import HBM_MOVES, PCIE, UNIFIED, DataSheet, data_sheet
from ...analyze.words import duration, size
from ...traces.calibration import Calibration
from ...traces.run import Hardware, Work
from .evidence import Evidence

ROOM: Final = 1.25
"""How far above what a calibration reached a machine is believed to go. On an H200 it reached 0.88 of what clocks and widths
allow: 55.4 of 63.0 GB/s over PCI Express 5, 4.23 of 4.81 TB/s in device memory. One that reached less than 0.8 would be poor."""

CACHE_BYTES: Final = 128 << 20
"""Inputs that a GPU's last cache may hold as the clock starts, and outputs as it stops: more than any has (B200: 126 MB)."""

FLOPS, MEMORY = "flops", "memory"
LINKS: Final[Mapping[str, str]] = {"h2d": "from the host", "d2h": "to the host", "p2p": "between GPUs"}


@dataclass(frozen=True, slots=True)
class Peak:
    """What all GPUs of a machine do together in a second, and where that comes from: ``datasheet H200``."""

    per_s: float
    source: str


@dataclass(frozen=True, slots=True)
class Limit:
    """The least time of an iteration, and what takes it: ``537 MB from the host at 63.0 GB/s, datasheet H200``."""

    ns: float
    text: str


@dataclass(frozen=True, slots=True)
class Paced:
    """A variant's limit, and its second fastest timed iteration."""

    variant: str
    limit: Limit
    fast_ns: int

    @property
    def ratio(self) -> float:
        """How many times the limit the iteration took; below 1 is impossible."""
        return self.fast_ns / self.limit.ns


def too_fast(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """(variant, sentence) of every variant that is faster than its hardware."""
    for one in paced(evidence):
        if one.ratio < 1:
            yield (
                one.variant,
                f"{one.variant} is faster than the hardware allows: its second fastest iteration takes "
                f"{duration(one.fast_ns)}, and its work at least {duration(one.limit.ns)} ({one.limit.text}): the work is done "
                "outside the iteration, or is less than stated",
            )


def paced(evidence: Evidence) -> tuple[Paced, ...]:
    """Every variant that has a limit and was timed on a GPU, in order."""
    if evidence.manifest is None:
        return ()
    hardware = evidence.manifest.hardware
    known = peaks(hardware, evidence.calibration)
    found = []
    for name, variant in evidence.variants.items():
        answer = next((a for a in variant.answers if a.inputs[1] == "cuda"), None)
        times = sorted([*(ns for r in evidence.rounds for ns in r.times_ns.get(name, ())), *variant.traced_ns])
        limit = None if answer is None else least(answer.work, known, len(hardware.gpus))
        if limit is not None and times:
            found.append(Paced(name, limit, times[min(1, len(times) - 1)]))
    return tuple(found)


def physics_notes(evidence: Evidence) -> Iterator[str]:
    """How near the fastest variant comes to its limit, or that nothing was checked; silent where no work is stated."""
    if evidence.manifest is None or not any(v.answers for v in evidence.variants.values()):
        return
    key, known = evidence.hardware_key, peaks(evidence.manifest.hardware, evidence.calibration)
    found = paced(evidence)
    if found:
        near = min(found, key=lambda one: one.ratio)
        yield (
            f"nearest to the hardware's limit is {near.variant}: its second fastest iteration takes {near.ratio:.3g} times the "
            f"{duration(near.limit.ns)} that its work takes at least ({near.limit.text})"
        )
    elif not known:
        measure = "; `aisp-trace capture --calibrate` measures it" if evidence.manifest.hardware.gpus else ""
        yield f"not checked against the hardware: no peak of {key} is known{measure}"
    if known and FLOPS not in known:
        yield f"FLOPs not checked against the hardware: no data sheet of {key} is known here"


def least(work: Work, known: Mapping[str, Peak], gpus: int) -> Limit | None:
    """The longest of the times that `work` takes at the `known` peaks; null where it asks for nothing of them."""
    passing = work.input_bytes + work.output_bytes - 2 * CACHE_BYTES * gpus
    asked = [
        (FLOPS, work.flops, f"{_number(work.flops / 1e12)} TFLOP"),
        (MEMORY, passing, f"{size(passing)} of memory"),
    ]
    asked += [
        (kind, n, f"{size(n)} {where}") for kind, where in LINKS.items() if (n := work.moved_bytes.get(kind) or 0)
    ]
    found = []
    for kind, amount, what in asked:
        if amount > 0 and (peak := known.get(kind)):
            rate = f"{_number(peak.per_s / 1e12)} TFLOP/s" if kind == FLOPS else f"{size(peak.per_s)}/s"
            found.append(Limit(amount / peak.per_s * 1e9, f"{what} at {rate}, {peak.source}"))
    return max(found, key=lambda limit: limit.ns, default=None)


def peaks(hardware: Hardware, calibration: Calibration | None) -> dict[str, Peak]:
    """The peaks that are known of all GPUs of `hardware`: ``flops``, ``memory``, ``h2d``, ``d2h``, ``p2p``."""
    sheets = [data_sheet(name) for name in hardware.gpus]
    devices = range(len(sheets))
    found = {
        FLOPS: _sum(_sheet(sheet, lambda s: s.flops_per_s) for sheet in sheets),
        MEMORY: _sum(_memory(sheets[i], i, calibration) for i in devices),
        "p2p": _sum([_measured(rate, calibration) for rate in _rates(calibration, "p2p", None)]),
    }
    for kind in ("h2d", "d2h"):
        found[kind] = _sum(_link(hardware.gpus[i], sheets[i], kind, i, calibration) for i in devices)
    return {kind: peak for kind, peak in found.items() if peak is not None}


def _link(name: str, sheet: DataSheet | None, kind: str, device: int, calibration: Calibration | None) -> Peak | None:
    paper = None if re.search(UNIFIED, name) else _sheet(sheet, lambda s: PCIE[s.pcie])
    return _higher(paper, max(_rates(calibration, kind, device), default=None), calibration)


def _memory(sheet: DataSheet | None, device: int, calibration: Calibration | None) -> Peak | None:
    paper = _sheet(sheet, lambda s: s.memory_bytes_per_s)
    for found in calibration.devices if calibration is not None else ():
        driver = found.memory_bytes_per_s if found.index == device else None
        if calibration is not None and driver and (paper is None or driver > paper.per_s):
            paper = Peak(driver, f"driver, {calibration.date}")
    copied = max(_rates(calibration, "d2d", device), default=None)
    return _higher(paper, None if copied is None else HBM_MOVES * copied, calibration)


def _rates(calibration: Calibration | None, kind: str, device: int | None) -> list[float]:
    """The best rate of each calibrated link of `kind`: of one device, or of all."""
    links = () if calibration is None else calibration.links
    return [k.best.median_bytes_per_s for k in links if k.kind == kind and device in (None, k.src_device, k.dst_device)]


def _higher(paper: Peak | None, reached: float | None, calibration: Calibration | None) -> Peak | None:
    """`paper`, unless the calibration reached more, or it is all there is."""
    measured = None if reached is None else _measured(reached, calibration)
    return measured if paper is None or (reached is not None and reached > paper.per_s) else paper


def _measured(reached: float, calibration: Calibration | None) -> Peak | None:
    return None if calibration is None else Peak(ROOM * reached, f"{ROOM} times calibration {calibration.date}")


def _sheet(sheet: DataSheet | None, figure: Callable[[DataSheet], float]) -> Peak | None:
    return None if sheet is None else Peak(figure(sheet), f"datasheet {sheet.name}")


def _sum(each: Iterator[Peak | None] | Sequence[Peak | None]) -> Peak | None:
    """All together; null unless each is known, and where there is none."""
    found = list(each)
    known = [peak for peak in found if peak is not None]
    if not known or len(known) < len(found):
        return None
    return Peak(sum(p.per_s for p in known), ", ".join(dict.fromkeys(p.source for p in known)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
