"""The candidate's process: started in a clean environment, recorded or not, and asked for one call after the other."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

from ...capture.nsys import NsysRecorder
from ...capture.processes import last_line, run_process
from ...traces.errors import RecorderError
from ..task import Task
from .evidence import Candidate, Heard, Spoken
from .limits import MemoryLimits
from .plan import Call, Plan
from .result import Reason
from .talk import Door, Talk, TalkError
from .watch import watching

LOAD_S: Final = 300.0
"""For importing a candidate, which may compile."""

KEEP: Final = 0.3
"""Chance that the outputs of a call are kept which need not be, decided when it is over."""

KEEP_BYTES: Final = 2 << 30
"""Of outputs kept by such chance, in all."""

INHERITED: Final = (
    *("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CC", "CXX", "CUDA_HOME", "CUDA_PATH"),
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
    *("NCCL_NVLS_ENABLE", "TORCH_SYMM_MEM_DISABLE_MULTICAST", "NVSHMEM_DISABLE_NVLS"),
    *("TRITON_LIBCUDA_PATH", "TRITON_PTXAS_PATH"),
)
"""Variables that the candidate's process gets from this one; it gets no others, but folders of its own."""

BOOT: Final = "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from {module} import main; sys.exit(main())"
"""Python runs isolated (-I) and gets the modules' place as an argument, not from the environment or the working folder."""


class Process:
    """A process that runs kernels, in a folder of its own with an environment of its own; `module` has its `main`."""

    module = "aisp_trace.kernels.verify.child"

    limits: MemoryLimits | None = None

    def __init__(self, folder: Path, device: str, timeout_s: float) -> None:
        self.folder, self._device, self.timeout_s = folder, device, timeout_s
        for name in ("home", "work", "kept"):
            (folder / name).mkdir(exist_ok=True)

    def record(self, visit: Visit, recorder: NsysRecorder) -> tuple[Path | None, str]:
        """(the recording, what is to be said of it) of one process that `visit` talks with."""
        recorder = replace(recorder, inherited=self.environment())
        problem, exit_code, trace = "", 0, None
        with visit, self._watching(visit):
            try:
                done = recorder.record(self.command(visit.door), self.folder, gated=False, timeout_s=self.timeout_s)
                exit_code, trace, problem = done.exit_code, self.folder / done.trace, "; ".join(done.notes)
            except RecorderError as exc:
                problem = str(exc)
        self._explain(visit.heard, exit_code, self.folder / "nsys-profile.stderr.log")
        return trace, problem

    def run_alone(self, visit: Visit, prefix: Sequence[str] = (), more: Mapping[str, str] | None = None) -> int:
        """The exit code of one process that is started by the words of `prefix` and that `visit` talks with."""
        with visit, self._watching(visit):
            done = run_process(
                [*prefix, *self.command(visit.door)],
                stdout=self.folder / "child.stdout.log",
                stderr=self.folder / "child.stderr.log",
                timeout_s=self.timeout_s,
                environment={**self.environment(), **(more or {})},
                cwd=self.folder / "work",
            )
        if done.timed_out and visit.heard.failure is None:
            visit.heard.failure = Reason("hung", f"its process did not end within {self.timeout_s:g} s")
        if not prefix:
            self._explain(visit.heard, done.exit_code, self.folder / "child.stderr.log")
        return done.exit_code

    def command(self, door: Path) -> list[str]:
        """What is started."""
        paths = [str(Path(one).resolve()) for one in sys.path if one and Path(one).resolve() != Path.cwd()]
        ours = Path(__file__).parents[3]
        if (ours / "aisp_trace").exists():  # where the package is imported from a checkout beside nothing else
            paths.append(str(ours))
        return [sys.executable, "-I", "-c", BOOT.format(module=self.module), ":".join(paths), "--door", str(door)]

    def environment(self) -> dict[str, str]:
        """The child's variables."""
        home = str(self.folder / "home")
        found = {name: os.environ[name] for name in INHERITED if name in os.environ}
        found |= {"HOME": home, "TRITON_CACHE_DIR": f"{home}/triton", "TORCHINDUCTOR_CACHE_DIR": f"{home}/inductor"}
        if self._device == "cpu":
            found |= {
                "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
            }  # a thread that computes is then nobody else's
        return found

    def _watching(self, visit: Visit) -> AbstractContextManager[None]:
        """Holds the process to its limits, if it has any."""
        return watching(visit.heard, self.limits, device_used if self._device == "cuda" else None)

    def _explain(self, heard: Heard, exit_code: int, log: Path) -> None:
        """Say more of a process that ended early."""
        if heard.failure is None or heard.failure.code != "ended":
            return
        said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        fatal = next((line.strip() for line in said.splitlines() if line.startswith("Fatal Python error")), "")
        if exit_code < 0 or fatal:
            how = signal.Signals(-exit_code).name if exit_code < 0 else fatal
            heard.failure = Reason("crashed", f"its process was ended by {how}, {heard.where}")
        else:
            words = last_line(log)
            text = f"its process ended with exit code {exit_code} before it was asked to, {heard.where}"
            heard.failure = Reason("ended", text + (f" ({words})" if words else ""))


def device_used() -> int:
    """Bytes in use on this process's GPU, by whomever."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return int(total - free)


class Child(Process):
    """The candidate's process, and which of its outputs are kept."""

    def __init__(
        self,
        folder: Path,
        task: Task,
        dtype: str,
        device: str,
        candidate: Candidate,
        timeout_s: float,
        call_s: float,
        limits: MemoryLimits | None = None,
    ) -> None:
        super().__init__(folder, device, timeout_s)
        self.limits = limits
        self._task, self._dtype, self._candidate, self.call_s = task, dtype, candidate, call_s
        self._kept_bytes = 0

    def run(self, plan: Plan, recorder: NsysRecorder | None, chance: random.Random) -> tuple[Heard, Path | None, str]:
        """(the conversation, its recording, why there is none) of one process."""
        if recorder is None:
            talk = Conversation(self, plan, chance, recorded=False, bare=False, patience=1.0)
            self.run_alone(talk)
            return talk.heard, None, ""
        talk = Conversation(self, plan, chance, recorded=True, bare=False, patience=1.0)
        trace, problem = self.record(talk, recorder)
        return talk.heard, trace, problem

    def begin(self, recorded: bool, bare: bool) -> dict[str, Any]:
        """The first message to the child."""
        return {
            "task": self._task.name,
            "dtype": self._dtype,
            "device": self._device,
            "recorded": recorded,
            "bare": bare,
        }

    def load(self, plan: Plan) -> dict[str, Any]:
        """The question that brings the candidate in."""
        shapes = [dict(shape) for shape in self._task.shapes]
        shapes += [dict(shape) for shape in plan.shapes if dict(shape) not in shapes]
        return {"do": "load", "path": str(self._candidate.path), "shapes": shapes}

    def files(self, number: int, call: Call, last: bool, chance: random.Random) -> dict[str, Path]:
        """Where the outputs of a call that has just ended are to be kept; empty: nowhere."""
        nbytes = sum(output.nbytes(call.shape, self._dtype) for output in self._task.outputs)
        wanted = call.always or last
        if not wanted and chance.random() < KEEP and self._kept_bytes + nbytes <= KEEP_BYTES:
            self._kept_bytes += nbytes
            wanted = True
        names = [output.name for output in self._task.outputs]
        return {name: self.folder / "kept" / f"{number}.{name}" for name in names} if wanted else {}


class Visit(ABC):
    """Talks with a child in a thread, while the caller runs the process inside the ``with`` block."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self.folder = Path(tempfile.mkdtemp(prefix="aisp-"))  # a socket's path may have 107 characters
        self._door = Door(self.folder)
        self.door = self._door.path
        self.heard = Heard()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._converse, daemon=True)

    @abstractmethod
    def _ask(self, talk: Talk) -> None:
        """The whole conversation. Raises `TalkError`."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(self._patience_s)
        self._door.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _converse(self) -> None:
        while (came := self._door.accept()) is None:
            if self._over.is_set():
                self.heard.failure = Reason("ended", "its process ended before it was asked to")
                return
        talk, self.heard.pid = came
        try:
            self._ask(talk)
        except TalkError as exc:
            if self.heard.failure is None:
                self.heard.failure = Reason(exc.code, f"{exc} ({self.heard.where})")
        finally:
            talk.close()
        if self.heard.failure is not None and not self.heard.finished:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.heard.pid, signal.SIGKILL)


class Conversation(Visit):
    """Asks for the calls of a plan."""

    def __init__(
        self, child: Child, plan: Plan, chance: random.Random, *, recorded: bool, bare: bool, patience: float
    ) -> None:
        super().__init__(child.call_s * patience)
        self._child, self._plan, self._chance = child, plan, chance
        self._begin, self._patience = child.begin(recorded, bare), patience
        self._call_s = child.call_s * patience

    def _ask(self, talk: Talk) -> None:
        """The whole conversation. Raises `TalkError`."""
        heard, plan = self.heard, self._plan
        talk.send(self._begin)
        heard.torch = str(talk.receive(LOAD_S * self._patience).get("torch", ""))
        seeds: dict[tuple[str, str], int] = {}
        for number, call in enumerate(plan.rehearsals):
            self._one(talk, call, f"rehearsal{number}", seeds, last=False)
        heard.spoken.clear()
        heard.where = "while it was loaded and set up"
        loaded = talk.ask(self._child.load(plan), LOAD_S * self._patience)
        heard.objections += _reasons(loaded)
        if loaded.get("raised"):
            heard.failure = Reason("load", f"it could not be loaded: {loaded['raised']}")
        for number, call in enumerate(plan.calls):
            if heard.failure is not None:
                break
            heard.where = f"at {call}"
            last = call.timed and (number + 1 == len(plan.calls) or plan.calls[number + 1] != call)
            spoken = self._one(talk, call, str(number), seeds, last)
            if spoken.answer.get("raised") and call.place != "views":
                heard.failure = Reason("raised", f"failed at {call}: {spoken.answer['raised']}")
        heard.where = "at the end"
        heard.objections += _reasons(talk.ask({"do": "end"}, self._call_s))
        heard.finished = True

    def _one(self, talk: Talk, call: Call, number: str, seeds: dict[tuple[str, str], int], last: bool) -> Spoken:
        key = (call.phase, call.same or number)
        seed = seeds.setdefault(key, _seed())
        order = {
            "do": "call",
            "seed": seed,
            "twin": _seed() if call.twin else None,
            "shape": dict(call.shape),
            "kind": call.kind,
            "place": call.place,
            "timed": call.timed,
        }
        answer = talk.ask(order, self._call_s)
        token = str(answer["token"])
        refused = {one.code for one in _reasons(answer)} & {"not_plain", "alias"}  # then there is nothing to keep
        nothing = bool(answer.get("raised")) or bool(refused) or call.phase == "rehearsal"
        files = {} if nothing else self._child.files(len(self.heard.spoken), call, last, self._chance)
        talk.ask({"do": "keep", "files": {name: str(file) for name, file in files.items()}}, self._call_s)
        spoken = Spoken(call, order, token, answer, files)
        self.heard.spoken.append(spoken)
        return spoken


def _seed() -> int:
    return int.from_bytes(os.urandom(7))


def _reasons(answer: Mapping[str, Any]) -> list[Reason]:
    """What the child objects to, as far as it has the form of an objection."""
    found = answer.get("objections")
    pairs = [one for one in found if isinstance(one, list) and len(one) == 2] if isinstance(found, list) else []
    return [Reason(str(code), str(text)) for code, text in pairs]
