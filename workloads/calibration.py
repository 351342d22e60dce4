"""Measures how fast this machine copies, for `aisp-trace capture --calibrate`. It is not a case study and not in the catalog.

    python -P -m aisp_trace.workloads.calibration --result FILE

For every GPU: host to device and back with pinned and with pageable memory, and within the device; for every ordered pair
of GPUs: from one to the other. Each by size, in CUDA events around several copies that run one after another in a stream:

    stream   |--- hold ---|start|copy|copy|copy|...|end|       pinned, d2d, p2p: queued while the stream is held, so that
    host     |-q-|-q-|-q-|-q-|                                 the host's launching is not measured

Pinned copies are measured once more while copies twice as many run the other way: a link that is used both ways carries less each
way. What a CUDA graph costs beside its kernels is measured in `graph_costs`.

Copies from and to pageable memory keep the host busy themselves and cannot be queued ahead; they are timed as they come.
Consecutive copies lie beside each other in a buffer far larger than the caches, so that they come from memory.

On a machine without a GPU there is no link: what a CPU pipeline calls h2d is a copy within the host's memory, whose speed
depends on how many threads copy at once. A figure for it would look like a link's peak and be none, so none is made.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from ..traces.calibration import RESULT_SCHEMA, CalibratedDevice, Costs, Link, Measured, Rate
from ..traces.errors import AispTraceError, UsageError, WorkloadError
from ..traces.run import write_json
from .graph_costs import graph_costs

SIZES: Final = tuple(4096 * 4**k for k in range(10))
"""4 KiB to 1 GiB, each four times the one before."""

REPETITIONS: Final = 15
WARM_UP: Final = 3
"""Repetitions of every size that are not counted: the first copies pay for page tables and clocks."""

REPETITION_BYTES: Final = 64 << 20
"""What one repetition copies at least, if that takes no more than `MOST_COPIES` copies."""

MOST_COPIES: Final = 64

DUPLEX_FROM: Final = 1 << 20
"""Bytes of the smallest copy that is measured against copies the other way: a smaller one is over before they meet."""

HOLD_S: Final = 100e-6
HOLD_PER_COPY_S: Final = 20e-6
"""How long a stream is held while copies are queued: well above what queueing takes, some microseconds a copy."""

CLOCK_HZ: Final = 2e9
"""About the clock at which a GPU counts the cycles of a hold; no more than an order of magnitude matters."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where copies run, in the words of `Link`."""

    kind: str
    memory: str
    src_device: int | None
    dst_device: int | None

    @property
    def device(self) -> int:
        """The device whose stream the copies run in: the source, if it is one."""
        device = self.dst_device if self.src_device is None else self.src_device
        assert device is not None
        return device


class Copies(Protocol):
    """Copies along one route, with the buffers they need."""

    largest: int
    """The most bytes that one copy can have."""

    def seconds(self, nbytes: int, copies: int) -> float:
        """How long `copies` copies of `nbytes` took, one after another."""


class Machine(Protocol):
    """What is calibrated. `CudaMachine` is the real one."""

    def devices(self) -> Sequence[CalibratedDevice]:
        """The GPUs, in order of their index."""

    def direct(self, src: int, dst: int) -> bool:
        """Whether device `src` reaches the memory of `dst` itself."""

    def copies(self, route: Route, largest: int) -> Copies:
        """Buffers for copies of up to `largest` bytes, or of as many as there is memory for."""

    def against(self, route: Route, other: Route, largest: int) -> Copies:
        """Like `copies`, while twice as many run along `other`."""

    def costs(self, device: int) -> Costs:
        """What a CUDA graph costs beside its kernels."""

    def facts(self) -> dict[str, Any]:
        """Versions."""


def calibrate(
    machine: Machine,
    *,
    sizes: Sequence[int] = SIZES,
    repetitions: int = REPETITIONS,
    say: Callable[[Link], None] = lambda link: None,
) -> Measured:
    """Measure every route of `machine`; `say` hears of each link when it is done.

    A size that there is no memory for is left out. Raises `WorkloadError` if a route has none left, or takes no time.
    """
    devices = machine.devices()
    indices = [device.index for device in devices]
    links = []
    for route in routes(indices):
        copies = machine.copies(route, max(sizes))
        rates = [measure(copies, nbytes, repetitions) for nbytes in sizes if nbytes <= copies.largest]
        if not rates:
            raise WorkloadError(
                f"there is no memory for copies of {min(sizes)} bytes ({route.kind}, {route.memory}); free some"
            )
        direct = None
        if route.src_device is not None and route.dst_device is not None and route.kind == "p2p":
            direct = machine.direct(route.src_device, route.dst_device)
        links.append(Link(route.kind, route.memory, route.src_device, route.dst_device, direct, rates))
        say(links[-1])
    duplex = []
    for index in indices:
        ways = Route("h2d", "pinned", None, index), Route("d2h", "pinned", index, None)
        for route, other in (ways, ways[::-1]):
            copies = machine.against(route, other, max(sizes))
            fitting = [nbytes for nbytes in sizes if DUPLEX_FROM <= nbytes <= copies.largest]
            if fitting:
                rates = [measure(copies, nbytes, repetitions) for nbytes in fitting]
                duplex.append(Link(route.kind, route.memory, route.src_device, route.dst_device, None, rates))
    return Measured(RESULT_SCHEMA, devices, links, machine.facts(), duplex, [machine.costs(index) for index in indices])


def routes(devices: Sequence[int]) -> Iterable[Route]:
    """Every route between the host and `devices`, within each of them and between each ordered pair."""
    for d in devices:
        for memory in ("pinned", "pageable"):
            yield Route("h2d", memory, None, d)
            yield Route("d2h", memory, d, None)
        yield Route("d2d", "device", d, d)
    for src in devices:
        for dst in devices:
            if src != dst:
                yield Route("p2p", "device", src, dst)


def measure(copies: Copies, nbytes: int, repetitions: int) -> Rate:
    """The rate of copies of `nbytes`; raises `WorkloadError` for a repetition that took no time."""
    count = max(1, min(MOST_COPIES, REPETITION_BYTES // nbytes))
    for _ in range(WARM_UP):
        copies.seconds(nbytes, count)
    seconds = [copies.seconds(nbytes, count) for _ in range(repetitions)]
    if min(seconds) <= 0:
        raise WorkloadError(f"{count} copies of {nbytes} bytes took no time at all; the timer cannot be believed")
    rates = sorted(nbytes * count / s for s in seconds)
    median = statistics.median(rates)
    first, _, third = statistics.quantiles(rates, n=4, method="inclusive")
    return Rate(nbytes, repetitions, count, median, rates[0], rates[-1], (third - first) / median)


class CudaMachine:
    """The GPUs that torch sees. Raises `UsageError` if there is none."""

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise UsageError(
                "there is nothing to calibrate: torch finds no CUDA device, and without one no link joins two memories; "
                "see `aisp-trace doctor`"
            )

    def devices(self) -> list[CalibratedDevice]:
        """As the driver describes them."""
        found = []
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            rate = memory_rate(properties)
            found.append(CalibratedDevice(index, properties.name, int(properties.total_memory), rate))
        return found

    def direct(self, src: int, dst: int) -> bool:
        """As the driver says."""
        return bool(torch.cuda.can_device_access_peer(src, dst))

    def copies(self, route: Route, largest: int) -> CudaCopies:
        """A quarter of what is free, at most: a machine in use must not run out."""
        torch.cuda.empty_cache()
        ends = {d for d in (route.src_device, route.dst_device) if d is not None}
        free = [torch.cuda.mem_get_info(d)[0] for d in ends]
        if route.src_device is None or route.dst_device is None:
            free.append(host_memory_free())
        return CudaCopies(route, min(largest, *(f // 4 for f in free)))

    def against(self, route: Route, other: Route, largest: int) -> OpposedCopies:
        """Half of what `copies` would take: there are twice as many buffers."""
        one, two = (self.copies(way, largest).largest // 2 for way in (route, other))
        return OpposedCopies(route, other, min(one, two))

    def costs(self, device: int) -> Costs:
        """As `graph_costs` measures them."""
        return graph_costs(device)

    def facts(self) -> dict[str, Any]:
        """torch and the CUDA it was built for."""
        return {"torch": torch.__version__, "cuda": torch.version.cuda}


class CudaCopies:
    """Copies in the current stream of the route's device."""

    def __init__(self, route: Route, largest: int) -> None:
        self.largest = largest
        self._device = torch.device("cuda", route.device)
        self._ahead = route.memory != "pageable"
        self._src = _buffer(route.src_device, route.memory, largest)
        self._dst = _buffer(route.dst_device, route.memory, largest)
        self._next = 0

    def seconds(self, nbytes: int, copies: int) -> float:
        """Between two events, `copies` copies of neighbouring pieces of the buffers."""
        pairs = [self._pieces(nbytes) for _ in range(copies)]
        with torch.cuda.device(self._device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            self._hold(nbytes, copies)
            start.record()
            for dst, src in pairs:
                dst.copy_(src, non_blocking=True)
            end.record()
            end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def _hold(self, nbytes: int, copies: int) -> None:
        """Keep the current stream from running what is queued next, until all of it is."""
        if self._ahead:
            torch.cuda._sleep(_cycles(copies))

    def _pieces(self, nbytes: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._next + nbytes > self.largest:
            self._next = 0
        piece = slice(self._next, self._next + nbytes)
        self._next += nbytes
        return self._dst[piece], self._src[piece]


class OpposedCopies(CudaCopies):
    """Copies in the current stream, while another stream makes twice as many along another route; both begin together."""

    def __init__(self, route: Route, other: Route, largest: int) -> None:
        super().__init__(route, largest)
        self._other = CudaCopies(other, largest)
        self._stream = torch.cuda.Stream(self._device)

    def _hold(self, nbytes: int, copies: int) -> None:
        with torch.cuda.stream(self._stream):
            torch.cuda._sleep(_cycles(3 * copies))
            begun = self._stream.record_event()
            for dst, src in [self._other._pieces(nbytes) for _ in range(2 * copies)]:
                dst.copy_(src, non_blocking=True)
        torch.cuda.current_stream().wait_event(begun)


def _cycles(copies: int) -> int:
    """How long to hold a stream while so many copies are queued."""
    return int((HOLD_S + copies * HOLD_PER_COPY_S) * CLOCK_HZ)


def _buffer(device: int | None, memory: str, nbytes: int) -> torch.Tensor:
    """`nbytes` of memory that has been written once, so that its pages exist."""
    if device is not None:
        return torch.ones(nbytes, dtype=torch.uint8, device=torch.device("cuda", device))
    return torch.empty(nbytes, dtype=torch.uint8, pin_memory=memory == "pinned").fill_(1)


def memory_rate(properties: Any) -> int | None:
    """A device's memory in bytes per second: two transfers a clock (kHz) over the bus (bits); null where torch is silent."""
    clock, bus = (getattr(properties, name, None) for name in ("memory_clock_rate", "memory_bus_width"))
    return 2 * int(clock) * 1000 * int(bus) // 8 if clock and bus else None


def host_memory_free(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may still take from the host: what Linux calls available, within the container's limit."""
    words = [line.split() for line in _text(meminfo).splitlines()]
    available = next((int(w[1]) * 1024 for w in words if w[:1] == ["MemAvailable:"]), 4 << 30)
    limit, used = _text(cgroup / "memory.max").strip(), _text(cgroup / "memory.current").strip()
    return min(available, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else available


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


def main(argv: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -P -m aisp_trace.workloads.calibration",
        description="Measure this machine's copies.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--result", type=Path, metavar="FILE", help="write the rates here as JSON, beside printing them"
    )
    options = parser.parse_args(argv)
    try:
        measured = calibrate(CudaMachine(), say=_show)
        if options.result is not None:
            write_json(options.result, measured)
    except AispTraceError as exc:
        print(f"calibration: {exc}", file=sys.stderr)
        return exc.exit_code
    return 0


def _show(link: Link) -> None:
    best = link.best
    print(f"{link.name}: {best.median_bytes_per_s / 1e9:.2f} GB/s in copies of {best.nbytes} bytes", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
