"""Questions to a process that times kernels, one after the other. If it dies or hangs, the next one goes on.

process 1   step, step, step, crash: that step has failed
process 2                           step, step, ... until there are no more
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from ...capture.nsys import NsysRecorder
from ...traces.errors import WorkloadError
from ..verify.limits import MemoryLimits
from ..verify.process import LOAD_S, Process, Visit
from ..verify.talk import Talk

END_S: Final = 60.0
PROCESS_S: Final = 3600.0
"""Far above what anybody waits for; each question has a time of its own."""


@dataclass(frozen=True, slots=True)
class Step:
    """A question, what it is about, how long its answer may take, and who hears the answer, or that there is none."""

    where: str
    question: Mapping[str, Any]
    timeout_s: float
    answered: Callable[[Mapping[str, Any]], None]
    failed: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ran:
    """One process: what was recorded of it (null: nothing), and what there is to say about that."""

    trace: Path | None
    problem: str


class _Timing(Process):
    module = "aisp_trace.kernels.bench.child"

    def environment(self) -> dict[str, str]:
        """torch.compile starts no processes of its own, whose end nsys would wait for."""
        return {**super().environment(), "TORCHINDUCTOR_COMPILE_THREADS": "1"}


class _Asking(Visit):
    """Asks steps until there are none, or `most` were asked."""

    def __init__(self, device: str, recorded: bool, steps: Iterator[Step | None], most: int | None) -> None:
        super().__init__(END_S)
        self._begin = {"device": device, "recorded": recorded}
        self._steps, self._most = steps, most
        self.asked, self.exhausted = 0, False
        self.current: Step | None = None

    def _ask(self, talk: Talk) -> None:
        talk.send(self._begin)
        self.heard.torch = str(talk.receive(LOAD_S).get("torch", ""))
        while self._most is None or self.asked < self._most:
            try:
                self.current = next(self._steps)
            except StopIteration:
                self.exhausted = True
                break
            if self.current is None:
                if self._over.is_set():  # the caller has left
                    return
                continue
            self.asked += 1
            self.heard.where = f"at {self.current.where}"
            answer = talk.ask(self.current.question, self.current.timeout_s)
            step, self.current = self.current, None
            if answer.get("raised"):
                step.failed(str(answer["raised"]))
            else:
                step.answered(answer)
        self.heard.where = "at the end"
        talk.ask({"do": "end"}, END_S)
        self.heard.finished = True


def run_steps(
    folder: Path,
    device: str,
    steps: Iterator[Step | None],
    *,
    recorder: NsysRecorder | None = None,
    most: int | None = None,
    limits: MemoryLimits | None = None,
) -> Iterator[Ran]:
    """Ask all `steps`, in as many processes as that takes, each for at most `most`; gives each process when it has ended.

    A null among the steps stands for one that is not known yet: the next one is waited for.
    Raises `WorkloadError` if a process ends before it was asked anything.
    """
    for number in count():
        place = folder / f"process{number}"
        place.mkdir(parents=True)
        process = _Timing(place, device, PROCESS_S)
        process.limits = limits
        asking = _Asking(device, recorder is not None, steps, most)
        if recorder is None:
            process.run_alone(asking)
            ran = Ran(None, "")
        else:
            ran = Ran(*process.record(asking, recorder))
        failure = asking.heard.failure
        if asking.current is not None:
            asking.current.failed(failure.text if failure is not None else "its process ended")
        yield ran
        if asking.exhausted:
            return
        if asking.asked == 0:
            if recorder is None:
                why = failure.text if failure is not None else "for no reason that is known"
                raise WorkloadError(f"the process that times kernels ended before it timed any: {why}")
            recorder = None  # nsys itself may be what fails
