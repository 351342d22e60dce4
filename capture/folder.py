"""The run folder in the making: ``.partial-<name>`` beside its final place, renamed when it is complete.

Beside what a run keeps (``traces/run.py``) it holds two things that are removed before the rename: the plan, and
``steps/``, one file for each process that has ended well. A step is believed again by ``--resume`` only if its command
line and the sources' commit are still the same and its files are still there.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from ..traces.content import file_name
from ..traces.documents import RESULT, STEP, read
from ..traces.errors import InputError, WorkloadError
from ..traces.output import make_container, real, reason
from ..traces.run import MANIFEST, PARTIAL, Manifest, ProcessResult, from_json, to_json, write_json
from .host import now_utc
from .plan import PLAN, Plan, load_plan

STEPS: Final = "steps"
RESUMED: Final = "resumed_utc.json"
IGNORE: Final = ".gitignore"
RESULT_SCHEMA: Final = "aisp-trace/result/1"

RANKS: Final = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)
"""Variables of a process's rank and the number of ranks: of torchrun, Slurm, Open MPI, and MPICH and its kin."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PartialRun:
    """An unfinished run folder and the plan it follows."""

    path: Path
    plan: Plan

    @property
    def final(self) -> Path:
        """Where the run will be when it is complete."""
        return self.path.with_name(self.run_id)

    @property
    def run_id(self) -> str:
        """The run's name: its workload and when it was begun."""
        return self.path.name.removeprefix(PARTIAL)

    def finish(self, manifest: Manifest) -> Path:
        """Write the manifest, remove what only resuming needs, rename the folder; returns its final place."""
        write_json(self.path / MANIFEST, manifest)
        shutil.rmtree(self.path / STEPS, ignore_errors=True)
        (self.path / PLAN).unlink()
        self.path.rename(self.final)
        return self.final

    def discard(self) -> None:
        """Remove the folder, of which nothing can be used."""
        shutil.rmtree(self.path, ignore_errors=True)

    def remember(self, step: str, value: Any, state: Mapping[str, Any]) -> None:
        """Keep `value` (a dataclass) as the outcome of `step`, under the sources' `state`."""
        folder = self.path / STEPS
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{step}.json", {"state": dict(state), "value": to_json(value)})

    def recall(self, step: str, cls: type[T], state: Mapping[str, Any]) -> T | None:
        """The outcome of `step` if it was kept under the same `state`; null if not, or if its file is damaged."""
        file = self.path / STEPS / f"{step}.json"
        try:
            data = read(file, STEP)
            if not isinstance(data, dict) or data.get("state") != dict(state):
                return None
            return from_json(cls, data.get("value"), str(file))
        except InputError:
            return None

    def resumed(self) -> tuple[str, ...]:
        """When the run was gone on with, in order; a damaged file raises `InputError`."""
        file = self.path / STEPS / RESUMED
        found = read(file, STEP) if file.is_file() else []
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise InputError(f"{file} does not say when the run was resumed; capture the run again")
        return tuple(found)


def begin(plan: Plan, output: Path) -> PartialRun:
    """A new unfinished run under `output`; `UsageError` or `InputError` if it cannot be there.

    Where `output` does not exist it is made, with a ``.gitignore`` that hides everything in it.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    job = rank_here(os.environ) if plan.source == "command" else None
    base = name = f"{file_name(plan.workload)}-{stamp}" + ("" if job is None else f"-rank{job[0]}")
    number = 2
    made = make_container(output, "--output")
    try:
        if made:
            _ignore(output)
        while (output / name).exists() or not _made(output.resolve() / f"{PARTIAL}{name}"):
            name, number = f"{base}-{number}", number + 1
        path = output.resolve() / f"{PARTIAL}{name}"
        write_json(path / PLAN, plan)
    except OSError as exc:
        raise InputError(f"no run folder can be made in {output}: {reason(exc)}; name another with --output") from exc
    return PartialRun(path, plan)


def rank_here(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """This process's number in a job of several, and of how many, whoever started it; null outside one."""
    for rank, size in RANKS:
        number, of = environ.get(rank, ""), environ.get(size, "")
        if number.isdecimal() and of.isdecimal() and int(of) > 1:
            return int(number), int(of)
    return None


def _made(folder: Path) -> bool:
    """Make `folder`, unless another process, such as another rank, was faster."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _ignore(folder: Path) -> None:
    """Keep git from seeing what lies in `folder`: runs are not sources, and would look like changes to them."""
    with suppress(FileExistsError), (folder / IGNORE).open("x", encoding="utf-8") as file:
        file.write("*\n")


def reopen(folder: Path) -> PartialRun:
    """The unfinished run in `folder`, which keeps that it is gone on with now; raises `InputError` if it is complete already, or
    none, or cannot be written."""
    folder = real(folder)
    if not folder.name.startswith(PARTIAL):
        what = "a complete run" if (folder / MANIFEST).is_file() else "not an unfinished run"
        raise InputError(f"{folder} is {what}; --resume takes a folder called {PARTIAL}<run>")
    run = PartialRun(folder, load_plan(folder))
    try:
        (folder / STEPS).mkdir(exist_ok=True)
        write_json(folder / STEPS / RESUMED, [*run.resumed(), now_utc()])
    except OSError as exc:
        raise InputError(f"{folder} cannot be gone on with: {reason(exc)}") from exc
    return run


def load_result(file: Path, plan: Plan, variants: Sequence[str]) -> ProcessResult:
    """What a workload process wrote; raises `WorkloadError` if it is missing or not the answer to what was asked."""
    try:
        data = read(file, RESULT)
        if not isinstance(data, dict) or data.get("schema") != RESULT_SCHEMA:
            raise InputError(f"its schema is not {RESULT_SCHEMA!r}")
        result = from_json(ProcessResult, data, "result")
    except InputError as exc:
        raise WorkloadError(
            f"{plan.workload} ended well but its result {file.name} cannot be used ({exc}); correct the workload"
        ) from exc
    answered = tuple(variant.name for variant in result.variants)
    asked: dict[str, tuple[object, object]] = {
        "variants": (tuple(variants), answered),
        "device": (plan.device, result.device),
        "seed": (plan.seed, result.seed),
    }
    if plan.size is not None:
        asked["size"] = (plan.size, result.size)
    for variant in result.variants:
        asked[f"number of iterations of {variant.name}"] = (plan.iterations, len(variant.iterations_ns))
    for what, (wanted, found) in asked.items():
        if wanted != found:
            raise WorkloadError(
                f"{plan.workload} was asked for {what} {wanted!r} and answered for {found!r}; correct the workload"
            )
    if any(ns <= 0 for variant in result.variants for ns in variant.iterations_ns):
        raise WorkloadError(f"{plan.workload} reported an iteration of no time at all; correct the workload")
    return result


def portable(command: Sequence[str], folder: Path) -> tuple[str, ...]:
    """`command` as a manifest states it: files of the run relative to it, programs without this machine's folders."""
    prefix = f"{folder}{os.sep}"
    parts = [part.replace(prefix, "") for part in command]
    return tuple(Path(part).name if _is_program(part) else part for part in parts)


def _is_program(part: str) -> bool:
    path = Path(part)
    return path.is_absolute() and path.is_file() and os.access(path, os.X_OK)
