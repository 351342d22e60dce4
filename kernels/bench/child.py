"""The process in which kernels are timed: an implementation at a shape, as the parent asks.

    warm up | copy inputs to a new place, write more than the L2 cache, RANGE call KEY: begin event, call, end event | ... | look

Inputs are drawn once for a case. Each call finds them elsewhere, and its outputs, too; the cache holds something else. The write
still runs as the call is launched, so that events do not wait for the host. Calls are the recording's only content: it
begins with the first case and ends before the first loop for energy.

Nothing here looks for cheating: that is what `kernels verify` is for.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Final

import torch

from ..task import Shape, Task
from ..tasks import find
from ..verify import candidates
from ..verify.errors import compare
from ..verify.memory import place
from ..verify.plan import ALIGNED
from ..verify.talk import Talk, TalkError, knock
from .result import COMPILED, EAGER

Tensors = dict[str, torch.Tensor]
Run = Callable[[Tensors, Tensors, Shape], Any]

WARM_UPS: Final = 3
"""Calls before the timed ones: the first loads and compiles, the second allocates."""

FLUSH_BYTES: Final = 512 << 20
"""Written before a timed call, or twice the L2 cache if that is more: 120 us of an H200, in which the host launches."""

COPY_BYTES: Final = 1 << 30
COPIES: Final = 20

BATCH_S: Final = 0.05
"""Calls of a loop for energy are launched in batches of this length, between which the clock is looked at."""

SPREAD: Final = 4
"""L2 caches that the places of a loop for energy fill, so that its calls do not find their inputs in the cache."""

MOST_PLACES: Final = 16
KEPT_CASES: Final = 4
"""Cases whose inputs and references stay in memory."""

COPIED_ON_CPU: Final = 1 << 24


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the parent until it says that this was all."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--door", required=True)
    asked = parser.parse_args(arguments)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    talk = knock(asked.door)
    try:
        with torch.no_grad():
            Timer(talk, talk.receive(None)).serve()
    except TalkError:
        return 3  # the parent has left
    return 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """The inputs of a case and its outputs in float64."""

    inputs: Tensors
    expected: Tensors


class Timer:
    """Answers questions; `begin` says the device, and whether this process is recorded.

    A long class because every question needs the same inputs, places and device.
    """

    def __init__(self, talk: Talk, begin: Mapping[str, Any]) -> None:
        self._talk = talk
        self._device = torch.device(begin["device"])
        self._cuda = self._device.type == "cuda"
        self._recorded: bool = begin["recorded"] and self._cuda
        self._recording = False
        self._chance = random.Random(os.urandom(16))
        self._cases: dict[tuple[Any, ...], Drawn] = {}
        self._runs: dict[tuple[Any, ...], Run] = {}
        self._cache = 1 << 20
        if self._cuda:
            torch.cuda.init()
            self._device = torch.device("cuda", torch.cuda.current_device())
            self._cache = int(torch.cuda.get_device_properties(self._device).L2_cache_size)
            self._cold = torch.zeros(max(FLUSH_BYTES, 2 * self._cache), dtype=torch.uint8, device=self._device)

    def serve(self) -> None:
        """Answer each question; returns when the parent says `end`."""
        self._talk.send({"ready": True, "torch": torch.__version__, "pid": os.getpid()})
        doing: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "device": self.device,
            "time": self.time,
            "repeat": self.repeat,
            "end": self.end,
        }
        while True:
            order = self._talk.receive(None)
            try:
                answer = doing[order["do"]](order)
            except Exception as exc:
                answer = {"raised": " ".join(f"{type(exc).__name__}: {exc}".split())[:500]}
            self._talk.send({**answer, "token": order["token"]})
            if order["do"] == "end":
                return

    # -- questions -----------------------------------------------------------------------------------------------------

    def device(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """What the device is, and how fast it copies."""
        if not self._cuda:
            return {"names": [], "copy_bytes_per_s": self._copied(COPIED_ON_CPU)}
        properties = torch.cuda.get_device_properties(self._device)
        return {
            "names": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
            "capability": [properties.major, properties.minor],
            "multiprocessors": properties.multi_processor_count,
            "clock_khz": getattr(properties, "clock_rate", None),
            "copy_bytes_per_s": self._copied(COPY_BYTES),
        }

    def time(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """`calls` calls of an implementation, in ns by events (on a processor by the clock), and how right the last one is."""
        self._record(True)
        drawn = self._drawn(order)
        start = time.perf_counter_ns()
        run = self._run(order)
        given = self._call(run, drawn, order, None)[1]
        first_call_ns = time.perf_counter_ns() - start
        for _ in range(WARM_UPS - 1):
            self._call(run, drawn, order, None)
        times = []
        for number in range(order["calls"]):
            ns, given = self._call(run, drawn, order, f"{order['key']}.{number}")
            times.append(ns)
        tolerance = find(order["task"]).tolerances[order["dtype"]]
        shares = [compare(given[name], wanted, tolerance).share for name, wanted in drawn.expected.items()]
        share = max(shares)
        return {"event_ns": times, "first_call_ns": first_call_ns, "tolerance_share": share if share < 1e300 else None}

    def repeat(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Calls back to back for `seconds`: when the loop began and ended (CLOCK_MONOTONIC), and how many they were."""
        self._record(False)
        drawn, run, shape = self._drawn(order), self._run(order), dict(order["shape"])
        nbytes = find(order["task"]).bytes(shape, order["dtype"])
        count = min(max(2, -(-SPREAD * self._cache // nbytes)), MOST_PLACES)
        places = [self._placed(drawn, order) for _ in range(count)]
        batch, made, spent = 2 * count, 0, 0
        for _ in range(batch):
            run(*places[0], shape)
        self._wait()
        start = time.monotonic_ns()
        while spent < order["seconds"] * 1e9:
            for number in range(batch):
                run(*places[number % count], shape)
            self._wait()
            made += batch
            spent = time.monotonic_ns() - start
            batch = max(count, int(BATCH_S * 1e9 * made / max(spent, 1)))
        return {"start_ns": start, "end_ns": start + spent, "calls": made}

    def end(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """The recording ends before the process does."""
        self._record(False)
        return {}

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _record(self, wanted: bool) -> None:
        """Begin or end the recording. It can begin once."""
        if self._recorded and wanted != self._recording:
            self._wait()
            runtime = torch.cuda.cudart()
            if wanted:
                runtime.cudaProfilerStart()
            else:
                runtime.cudaProfilerStop()
                self._recorded = False
            self._recording = wanted

    def _drawn(self, order: Mapping[str, Any]) -> Drawn:
        key = (order["task"], order["dtype"], tuple(sorted(order["shape"].items())))
        if key not in self._cases:
            if len(self._cases) >= KEPT_CASES:
                self._cases.clear()
            task: Task = find(order["task"])
            generator = torch.Generator(self._device).manual_seed(int.from_bytes(os.urandom(7)))
            inputs = task.draw(generator, order["shape"], order["dtype"], self._device)
            self._cases[key] = Drawn(inputs, task.reference(inputs, order["shape"]))
        return self._cases[key]

    def _run(self, order: Mapping[str, Any]) -> Run:
        """The implementation as one function, made when it is first asked for."""
        task, dtype, shape = find(order["task"]), order["dtype"], dict(order["shape"])
        key = (order["how"], order.get("path"), task.name, dtype, tuple(sorted(shape.items())))
        if key not in self._runs:
            if order["how"] == EAGER:
                self._runs[key] = lambda inputs, outputs, shape: task.eager(inputs, shape, dtype)
            elif order["how"] == COMPILED:
                made = torch.compile(_eager(task, shape, dtype, len(self._runs)), dynamic=False, fullgraph=True)
                self._runs[key] = lambda inputs, outputs, shape: made(inputs)
            else:
                loaded = candidates.load(order["path"], task, dtype, [shape])
                self._runs[key] = loaded
        return self._runs[key]

    def _placed(self, drawn: Drawn, order: Mapping[str, Any]) -> tuple[Tensors, Tensors]:
        """Inputs and outputs in memory that is new each time."""
        task, device = find(order["task"]), self._device
        inputs, outputs = {}, {}
        for name, tensor in drawn.inputs.items():
            inputs[name] = place(tensor.shape, tensor.dtype, device, ALIGNED, self._chance, bare=False).tensor
            inputs[name].copy_(tensor)
        for operand in task.outputs:
            shape, dtype = operand.shape(order["shape"]), getattr(torch, operand.dtype_in(order["dtype"]))
            outputs[operand.name] = place(shape, dtype, device, ALIGNED, self._chance, bare=False).tensor
        return inputs, outputs

    def _call(self, run: Run, drawn: Drawn, order: Mapping[str, Any], key: str | None) -> tuple[int, Tensors]:
        """(ns, outputs) of one call; with a `key` it stands in the recording as ``call KEY``."""
        inputs, outputs = self._placed(drawn, order)
        shape = dict(order["shape"])
        if not self._cuda:
            start = time.perf_counter_ns()
            given = run(inputs, outputs, shape)
            return time.perf_counter_ns() - start, outputs if given is None else given
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self._wait()
        self._cold.zero_()
        if key is not None:
            torch.cuda.nvtx.range_push(f"call {key}")
        begin.record()
        given = run(inputs, outputs, shape)
        end.record()
        if key is not None:
            torch.cuda.nvtx.range_pop()
        self._wait()
        return round(begin.elapsed_time(end) * 1e6), outputs if given is None else given

    def _copied(self, nbytes: int) -> float:
        """Bytes per second, read and written, of copies within the device."""
        source = torch.zeros(nbytes, dtype=torch.uint8, device=self._device)
        target = torch.empty_like(source)
        times = []
        for _ in range(COPIES):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2)) if self._cuda else (None, None)
            start = time.perf_counter_ns()
            if begin is not None:
                begin.record()
            target.copy_(source)
            if end is not None:
                end.record()
            self._wait()
            times.append(begin.elapsed_time(end) / 1e3 if begin is not None else (time.perf_counter_ns() - start) / 1e9)
        return 2 * nbytes / statistics.median(times)

    def _wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()


def _eager(task: Task, shape: Shape, dtype: str, number: int) -> Callable[[Tensors], Tensors]:
    """The task's PyTorch code as a function of its inputs, with a code object of its own.

    torch.compile counts recompilations by code object and gives up after eight.
    """

    def run(inputs: Tensors) -> Tensors:
        return task.eager(inputs, shape, dtype)

    code: CodeType = run.__code__.replace(co_name=f"case_{number}")
    return FunctionType(code, run.__globals__, f"case_{number}", None, run.__closure__)


if __name__ == "__main__":
    sys.exit(main())
