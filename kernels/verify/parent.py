"""Verify a candidate: start its process, ask for calls, and judge outputs and recording when the process is gone.

    main thread      record the child | outputs against float64 | judge the recording | compute-sanitizer | verdict
    second thread    seeds and tokens, one call at a time; keep or drop its outputs

The verdict, the seeds, the references and the clock (a recording) are this process's. Of what the child says, its observations
(guards, changed inputs, what runs on) and its event times are believed only where they speak against the candidate.
"""

from __future__ import annotations

import hashlib
import platform
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...capture.host import now_utc, visible_gpus
from ...capture.nsight import Nsys, find_nsys
from ...capture.nsys import NsysRecorder
from ...traces.errors import InputError, UsageError
from ...traces.output import real
from ...traces.version import version
from ..build import KernelError, NoCompilerError, arch_of, build, find_nvcc
from ..build import version as compiler_version
from ..task import Task
from ..tasks import NAMES, find
from ..untrusted import COMPILE_S, compiling, refuse_untrusted
from . import verdict
from .evidence import Asked, Candidate, Heard, Sanitized
from .names import kernels_of
from .plan import make_plan, small_plan
from .process import Child
from .result import Reason, Verification
from .sanitize import TOOLS, find_sanitizer, run_tool

Say = Callable[[str], None]


def verify(asked: Asked, say: Say = lambda text: None) -> Verification:
    """The verdict on ``asked.file``; `say` hears what is about to happen.

    Raises `UsageError` or `InputError` for what cannot be asked.
    """
    began = time.monotonic()

    def left_s() -> float:
        return min(
            asked.timeout_s, asked.timeout_s if asked.within_s is None else began + asked.within_s - time.monotonic()
        )

    task, dtype = _task(asked)
    shapes = [parse_shape(task, text) for text in asked.shapes]
    device = _device(asked)
    digest = digest_of(asked.file)
    nsys = find_nsys() if device == "cuda" else None
    common = verdict.Common(asked, task, dtype, device, digest, made_with(device, nsys))
    try:
        candidate = _candidate(asked, device, digest, say)
    except KernelError as exc:
        return verdict.refused_at_once(common, Reason("compile", str(exc)))
    chance = random.SystemRandom()
    plan = make_plan(task, dtype, device, shapes, asked.calls, candidate.path.suffix == ".py", chance)
    recorder, unrecorded = recorder_for(device, nsys)
    with tempfile.TemporaryDirectory(prefix="aisp-trace-verify-") as temporary:
        folder = Path(temporary)
        limits = asked.limits if asked.run_untrusted else None
        child = Child(folder, task, dtype, device, candidate, max(left_s(), 1.0), asked.call_s, limits)
        say(f"{len(plan.calls)} calls of {asked.file.name}" + (", recorded" if recorder else ""))
        heard, recording, problem = child.run(plan, recorder, chance)
        if digest_of(asked.file) != digest:
            heard.objections.append(Reason("environment", "its file changed after the verification began"))
        say("comparing outputs with float64")
        compared = verdict.compare_all(heard.spoken, task, dtype, device)
        sanitized = _sanitize(asked, child, task, dtype, device, heard, left_s, say)
        found = verdict.reach(common, plan, heard, compared, recording, unrecorded or problem, candidate, sanitized)
        if asked.keep is not None and (folder / "trace.sqlite").is_file():
            shutil.copy(folder / "trace.sqlite", asked.keep)
    return found


def parse_shape(task: Task, text: str) -> dict[str, int]:
    """``rows=8192,columns=8192`` as the sizes of `task`; raises `UsageError`."""
    parts = [part.partition("=") for part in text.split(",")]
    found = {name: int(size) for name, _, size in parts if size.isdecimal() and int(size) > 0}
    if set(found) != set(task.sizes) or len(parts) != len(found):
        wanted = ",".join(f"{name}=N" for name in task.sizes)
        raise UsageError(f"--shape {text} is not a shape of {task.name}; write {wanted}")
    return {name: found[name] for name in task.sizes}


# -- what was asked for ------------------------------------------------------------------------------------------------


def _task(asked: Asked) -> tuple[Task, str]:
    if asked.task not in NAMES:
        raise UsageError(f"no task is called {asked.task!r}; tasks are {', '.join(NAMES)}")
    task = find(asked.task)
    dtype = task.dtype_of(asked.dtype or None)
    if not asked.file.is_file():
        raise InputError(f"{asked.file} is not a file; name a candidate, a .cu or a .py file")
    if asked.file.suffix not in (".cu", ".py"):
        raise UsageError(f"{asked.file} is neither a .cu nor a .py file; only these can be candidates")
    refuse_untrusted(asked.file, asked.run_untrusted)
    return task, dtype


def _device(asked: Asked) -> str:
    import torch

    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cuda", "cpu"):
        raise UsageError(f"device {device!r} does not exist; devices are cuda and cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, but torch sees no GPU here; see `aisp-trace doctor`")
    if device == "cpu" and asked.file.suffix == ".cu":
        raise UsageError(
            f"{asked.file} is a CUDA kernel and there is no GPU to run it on; verify it where there is one"
        )
    return device


def digest_of(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as exc:
        raise InputError(f"{file} cannot be read: {exc.strerror or exc}") from exc


def _candidate(asked: Asked, device: str, digest: str, say: Say) -> Candidate:
    """The candidate, compiled if it is a source. Raises `KernelError` if it does not compile, `UsageError` without a compiler."""
    if asked.file.suffix == ".py":
        return Candidate(asked.file, real(asked.file), digest, None, None)
    import torch

    try:
        nvcc = find_nvcc()
    except NoCompilerError as exc:
        raise UsageError(str(exc)) from exc
    say(f"compiling {asked.file.name}")
    capability = torch.cuda.get_device_capability()
    with compiling(asked.file, asked.within_s or COMPILE_S) as (source, compiler):
        library = build(source, capability, nvcc, compiler=compiler)
        own = kernels_of(source, capability, compiler)
    return Candidate(asked.file, library, digest, own, f"nvcc {compiler_version(nvcc)}")


def recorder_for(device: str, nsys: Nsys | None) -> tuple[NsysRecorder | None, str]:
    """(what records, why nothing does)."""
    if device == "cpu":
        return None, "nothing runs on a device"
    if nsys is None:
        return None, "nsys was not found; install Nsight Systems or name its nsys in AISP_NSYS"
    if nsys.problem is not None:
        return None, nsys.problem
    return NsysRecorder(nsys, "minimal", "cuda"), ""


def made_with(device: str, nsys: Nsys | None) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {
        "aisp-trace": version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "created_utc": now_utc(),
    }
    if device == "cuda":
        arch = arch_of(torch.cuda.get_device_capability())
        found |= {"gpu": torch.cuda.get_device_name(), "arch": arch, "cuda": torch.version.cuda}
        found["driver"] = next((gpu["driver"] for gpu in visible_gpus()), None)
        found["nsys"] = nsys.version if nsys else None
    return found


def _sanitize(
    asked: Asked,
    child: Child,
    task: Task,
    dtype: str,
    device: str,
    heard: Heard,
    left_s: Callable[[], float],
    say: Say,
) -> Sequence[Sanitized]:
    if device != "cuda" or not asked.sanitizer or heard.failure is not None:
        return ()
    program = find_sanitizer()
    if program is None:
        return ()
    found = []
    for tool in TOOLS:
        child.timeout_s = left_s()
        if child.timeout_s < 1:
            found.append(Sanitized(tool, None, "no time was left"))
            continue
        say(f"compute-sanitizer {tool}")
        plan = small_plan(task, dtype, random.SystemRandom())
        found.append(run_tool(program, tool, child, plan))
    return found
