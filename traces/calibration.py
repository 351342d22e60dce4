"""How fast a machine's links are, as measured: the file ``calibration_<hardware_key>.json``.

Made by `aisp-trace capture --calibrate`, read when copies are analysed. Strict JSON, as a run's manifest is: an unknown,
missing or wrongly typed key is an `InputError`. Only the standard library is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .documents import CALIBRATION
from .errors import InputError
from .faults import refusal
from .hardware_key import calibration_name
from .run import ADDED, Hardware, from_json, read_document

SCHEMA: Final = "aisp-trace/calibration/1"
RESULT_SCHEMA: Final = "aisp-trace/calibration-result/1"
LINK_KINDS: Final = ("h2d", "d2h", "d2d", "p2p")
LINK_MEMORY: Final = ("pinned", "pageable", "device")


@dataclass(frozen=True, slots=True)
class Rate:
    """Copies of `nbytes` bytes each: bytes per second over `n` repetitions of `copies` copies one after another.

    `low` and `high` are the slowest and fastest repetition, `spread` the distance of the quartiles over the median.
    """

    nbytes: int
    n: int
    copies: int
    median_bytes_per_s: float
    low_bytes_per_s: float
    high_bytes_per_s: float
    spread: float


@dataclass(frozen=True, slots=True)
class Link:
    """One direction between two memories. Device indices are null for the host.

    `memory` is that of the host's side (``pinned`` or ``pageable``), ``device`` where there is none. `direct` says of
    ``p2p`` whether the devices reach each other's memory; null for other kinds. `rates` ascend by size.
    """

    kind: str
    memory: str
    src_device: int | None
    dst_device: int | None
    direct: bool | None
    rates: Sequence[Rate]

    @property
    def name(self) -> str:
        """``h2d pinned, device 0`` or ``p2p device 0 to 1``."""
        if self.kind == "p2p":
            return f"p2p device {self.src_device} to {self.dst_device}"
        device = self.dst_device if self.src_device is None else self.src_device
        return f"{self.kind} {'' if self.memory == 'device' else self.memory + ', '}device {device}"

    @property
    def best(self) -> Rate:
        """The rate whose median is largest: what the link can carry."""
        return max(self.rates, key=lambda rate: rate.median_bytes_per_s)


@dataclass(frozen=True, slots=True)
class CalibratedDevice:
    """A GPU as its driver describes it. `memory_bytes_per_s` (clock times bus width) is null where the driver is silent."""

    index: int
    name: str
    memory_bytes: int
    memory_bytes_per_s: int | None


@dataclass(frozen=True, slots=True)
class Costs:
    """What CUDA graphs cost on one device: `launch_ns` of the host to launch one, `node_ns` from the end of one of its operations
    to the start of the next. `node_ns` is null where torch.profiler could not record the graph."""

    device: int
    launch_ns: int
    node_ns: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What the measuring process answers. `facts` are the versions it saw; `duplex` are links that were measured while copies ran
    the other way."""

    schema: str
    devices: Sequence[CalibratedDevice]
    links: Sequence[Link]
    facts: Mapping[str, Any]
    duplex: Sequence[Link] = field(default=(), metadata=ADDED)
    costs: Sequence[Costs] = field(default=(), metadata=ADDED)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration with its provenance; `git` is ``{commit, dirty, changed}``, `packages` and `facts` hold versions."""

    schema: str
    hardware_key: str
    created_utc: str
    command: Sequence[str]
    hardware: Hardware
    packages: Mapping[str, str]
    git: Mapping[str, Any]
    facts: Mapping[str, Any]
    devices: Sequence[CalibratedDevice]
    links: Sequence[Link]
    duplex: Sequence[Link] = field(default=(), metadata=ADDED)
    costs: Sequence[Costs] = field(default=(), metadata=ADDED)

    @property
    def date(self) -> str:
        """The day it was made, ``2026-11-22``."""
        return self.created_utc[:10]


def load_calibration(file: Path) -> Calibration:
    """The calibration in `file`; raises `InputError` for anything that is not exactly one, or that is misnamed."""
    found = from_json(Calibration, read_document(file, SCHEMA, CALIBRATION), str(file))
    if file.name != calibration_name(found.hardware_key):
        raise InputError(f"{file} holds hardware_key {found.hardware_key!r}; rename the file or correct the key")
    check_links(found.links, str(file))
    check_links(found.duplex, str(file))
    check_costs(found.costs, str(file))
    return found


def load_measured(file: Path) -> Measured:
    """What the measuring process wrote to `file`; raises `InputError` for anything else."""
    found = from_json(Measured, read_document(file, RESULT_SCHEMA, CALIBRATION), str(file))
    check_links(found.links, str(file))
    check_links(found.duplex, str(file))
    check_costs(found.costs, str(file))
    return found


def check_links(links: Sequence[Link], where: str) -> None:
    """Raises an `InputError` that tells every link that does not exist in the model, or whose rates cannot be rates."""
    if faults := [("", fault) for fault in _link_faults(links)]:
        raise refusal(where, faults)


def check_costs(costs: Sequence[Costs], where: str) -> None:
    """Raises an `InputError` that names every device whose costs cannot be costs."""
    impossible = [one for one in costs if one.launch_ns <= 0 or (one.node_ns is not None and one.node_ns < 0)]
    if faults := [("", f"device {one.device} has impossible costs; calibrate again") for one in impossible]:
        raise refusal(where, faults)


def _link_faults(links: Sequence[Link]) -> Iterator[str]:
    seen = set()
    for link in links:
        if link.kind not in LINK_KINDS or link.memory not in LINK_MEMORY:
            yield (
                f"a link has kind {link.kind!r} and memory {link.memory!r}; "
                f"kinds are {', '.join(LINK_KINDS)}, memories {', '.join(LINK_MEMORY)}"
            )
        key = (link.kind, link.memory, link.src_device, link.dst_device)
        if key in seen:
            yield f"link {link.name} is there twice; keep one"
        seen.add(key)
        sizes = [rate.nbytes for rate in link.rates]
        if not sizes or sizes != sorted(set(sizes)) or sizes[0] <= 0:
            yield f"the rates of link {link.name} are not by ascending size; calibrate again"
        for rate in link.rates:
            ordered = 0 < rate.low_bytes_per_s <= rate.median_bytes_per_s <= rate.high_bytes_per_s < float("inf")
            if not ordered or rate.n < 1 or rate.copies < 1 or not 0 <= rate.spread < float("inf"):
                yield f"link {link.name} has an impossible rate at {rate.nbytes} bytes; calibrate again"
