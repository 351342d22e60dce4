"""Experimental kernels behind a switch: one runs where it is enabled and verified, else PyTorch does, and the guard says why.

    from aisp_trace.kernels.guard import kernel

    rmsnorm = kernel("rmsnorm", path="test.cu")     # without a path: the newest verified source of artifacts/kernels
    out = rmsnorm(x=x, weight=weight)               # a tensor; of a task with several outputs a dict
    rmsnorm.decision                                # Decision(used, task, reason, code), of the latest call

    enabled? -> on a GPU? -> plain inputs? -> a stamp of this source? -> architecture, compiler, dtype? -> loads? -> shape?
       no to any of them: `Task.eager` runs on the same inputs, and the reason is given once

A kernel is enabled by ``AISP_KERNELS=rmsnorm,softmax`` or ``all``. A stamp (artifacts.py) counts for the source whose digest it
has. A shape is in the verified range if each size lies between the least and the most at which outputs were compared, and if it
needs no more bytes than the largest of these shapes. What a stamp proves, and what not: docs/kernels.md.

The kernel is enqueued on torch's current stream; its outputs are new tensors from torch's allocator. It has no backward pass.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..traces.documents import KERNEL, read_bytes
from ..traces.errors import InputError
from . import build
from .artifacts import FOLDER, Stamp, digest_of, stamps
from .task import Shape, Task
from .tasks import find
from .untrusted import compiling
from .verify.result import VERIFIED

if TYPE_CHECKING:
    import torch

VARIABLE: Final = "AISP_KERNELS"
ALL: Final = "all"

REASONS: Final = {
    "not_enabled": "it is not enabled",
    "no_gpu": "the inputs are not on a GPU",
    "inputs": "the inputs are not plain contiguous tensors on one device, or need a gradient",
    "no_stamp": "nothing was verified",
    "source": "another source was verified",
    "edited": "the verification was changed or is damaged",
    "refused": "it was refused when it was verified",
    "no_compiler": "there is no nvcc",
    "compiler": "it was verified with another compiler",
    "architecture": "it was verified on another architecture",
    "dtype": "it was verified for another element type",
    "shape": "the shape is outside what was verified",
    "load": "it could not be compiled or loaded",
    "launch": "it refused the launch",
}
"""Why the reference runs, in the order in which it is looked at."""

Run = Callable[[dict[str, Any], dict[str, Any], Shape], Any]
"""Inputs, outputs and shape of one launch."""


class NotUsed(UserWarning):
    """The reference runs in a kernel's place."""


class KernelRefused(Exception):
    """A kernel could not be loaded, or refused a launch. One sentence."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the kernel of `task` runs. Else `reason` is a sentence and `code` one of `REASONS`; `sha256` is of the source."""

    used: bool
    task: str
    reason: str = ""
    code: str = ""
    sha256: str = ""


class Machine(Protocol):
    """What the guard asks of the machine. `Cuda` is the real one."""

    def arch(self, tensor: torch.Tensor) -> str:
        """``sm_90`` of the GPU that holds `tensor`; empty if none does."""

    def compiler(self) -> str:
        """``nvcc 13.0``; raises `NoCompilerError`."""

    def load(self, source: Path, task: Task, dtype: str, arch: str) -> Run:
        """The kernel, compiled if need be; raises `KernelError` or `KernelRefused`."""


class Cuda:
    """torch, nvcc, and the C interface of an emitted file."""

    def arch(self, tensor: torch.Tensor) -> str:
        """Of the device as torch sees it."""
        return _arch(tensor.device) if tensor.is_cuda else ""

    def compiler(self) -> str:
        """Asked once a process."""
        return _compiler()

    def load(self, source: Path, task: Task, dtype: str, arch: str) -> Run:
        """By the cache of build.py."""
        import torch

        from .verify.candidates import CandidateError, load

        with compiling(source) as (file, compiler):
            library = build.build(file, build.capability_of(arch), compiler=compiler)
        try:
            launch = load(str(library), task, dtype, ())
        except (CandidateError, OSError) as exc:
            raise KernelRefused(str(exc)) from exc

        def run(inputs: dict[str, Any], outputs: dict[str, Any], shape: Shape) -> None:
            with torch.cuda.device(next(iter(outputs.values())).device):
                try:
                    launch(inputs, outputs, shape)
                except CandidateError as exc:
                    raise KernelRefused(str(exc)) from exc

        return run


@cache
def _arch(device: Any) -> str:
    import torch

    return build.arch_of(torch.cuda.get_device_capability(device))


@cache
def _compiler() -> str:
    return f"nvcc {build.version(build.find_nvcc())}"


@dataclass(frozen=True, slots=True)
class _Ready:
    """A kernel that was loaded, and the range of its stamp: by size least and most, and the most bytes."""

    run: Run
    sha256: str
    sizes: Mapping[str, tuple[int, int]]
    most_bytes: int


class _Refusal(Exception):
    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def kernel(
    task: str,
    path: Path | str | None = None,
    *,
    dtype: str | None = None,
    enabled: bool | None = None,
    artifacts: Path | str = FOLDER,
    logger: logging.Logger | None = None,
    machine: Machine | None = None,
) -> Guarded:
    """The task called `task` (`KeyError` if there is none) as a function of its inputs by name.

    `path` is the CUDA file; null takes the newest verified one. `dtype` is only for tasks none of whose inputs has the run's
    element type. `enabled` replaces the environment's word. Reasons go to `logger`, else they are warnings (`NotUsed`).
    """
    found = find(task)
    return Guarded(
        found, None if path is None else Path(path), dtype, enabled, Path(artifacts), logger, machine or Cuda()
    )


class Guarded:
    """A task behind the guard; made by `kernel`. It may be called from several threads."""

    def __init__(
        self,
        task: Task,
        path: Path | None,
        dtype: str | None,
        enabled: bool | None,
        artifacts: Path,
        logger: logging.Logger | None,
        machine: Machine,
    ) -> None:
        self.task = task
        self.decision = Decision(False, task.name, f"{task.name} was not called yet")
        self._path, self._dtype, self._enabled, self._artifacts = path, dtype, enabled, artifacts
        self._logger, self._machine = logger, machine
        self._known: dict[tuple[str, str], _Ready | _Refusal] = {}
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, **inputs: torch.Tensor) -> Any:
        """The outputs of the kernel, or of `Task.eager`. Raises `ValueError` for inputs that do not fit each other."""
        import torch

        return torch.compiler.disable(self._call)(inputs) if torch.compiler.is_compiling() else self._call(inputs)

    def decide(self, **inputs: torch.Tensor) -> Decision:
        """What a call with these inputs would do; loads the kernel if need be."""
        shape, dtype = self._shape(inputs)
        return self._decide(inputs, shape, dtype)[0]

    def _call(self, inputs: dict[str, torch.Tensor]) -> Any:
        shape, dtype = self._shape(inputs)
        decision, ready = self._decide(inputs, shape, dtype)
        outputs: dict[str, Any] | None = None
        if ready is not None:
            outputs = self._outputs(inputs, shape, dtype)
            try:
                ready.run(inputs, outputs, shape)
            except KernelRefused as exc:
                outputs, decision = None, self._not(_Refusal("launch", f"{self.task.name} was not launched: {exc}"))
        if outputs is None:
            outputs = self.task.eager(inputs, shape, dtype)
            self._tell(decision)
        self.decision = decision
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def _outputs(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, Any]:
        import torch

        device = next(iter(inputs.values())).device
        return {
            one.name: torch.empty(one.shape(shape), dtype=getattr(torch, one.dtype_in(dtype)), device=device)
            for one in self.task.outputs
        }

    def _shape(self, inputs: Mapping[str, torch.Tensor]) -> tuple[dict[str, int], str]:
        """The sizes and the element type that `inputs` have; raises `ValueError` where they do not fit the task."""
        task, names = self.task, [operand.name for operand in self.task.inputs]
        if sorted(inputs) != sorted(names):
            raise ValueError(f"{task.name} takes {', '.join(names)}, and was given {', '.join(inputs) or 'nothing'}")
        shape: dict[str, int] = {}
        own = [inputs[one.name].dtype for one in task.inputs if one.dtype == "element"]
        dtype = str(own[0]).removeprefix("torch.") if own else self._dtype or task.dtypes[0]
        for one in task.inputs:
            tensor = inputs[one.name]
            if len(tensor.shape) == len(one.dims):
                for dim, size in zip(one.dims, tensor.shape, strict=True):
                    if isinstance(dim, str):
                        shape.setdefault(dim, int(size))
            found = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
            complete = all(dim in shape for dim in one.dims if isinstance(dim, str))
            if not complete or found != (one.shape(shape), one.dtype_in(dtype)):
                wanted = f"{one.name}[{', '.join(map(str, one.dims))}] of {one.dtype_in(dtype)}"
                raise ValueError(
                    f"{task.name} takes {wanted}, and was given one of shape {list(found[0])} of {found[1]}"
                )
        return shape, dtype

    # -- the decision --------------------------------------------------------------------------------------------------

    def _decide(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> tuple[Decision, _Ready | None]:
        try:
            ready = self._ready(inputs, dtype)
            self._in_range(ready, shape, dtype)
        except _Refusal as exc:
            return self._not(exc), None
        return Decision(True, self.task.name, "", "", ready.sha256), ready

    def _not(self, why: _Refusal) -> Decision:
        return Decision(False, self.task.name, str(why), why.code)

    def _tell(self, decision: Decision) -> None:
        with self._lock:
            if decision.code in self._told:
                return
            self._told.add(decision.code)
        text = f"{decision.reason}; PyTorch's own operations run instead"
        if self._logger is not None:
            self._logger.warning(text)
        else:
            warnings.warn(text, NotUsed, stacklevel=4)

    def _ready(self, inputs: Mapping[str, torch.Tensor], dtype: str) -> _Ready:
        name = self.task.name
        if not (is_enabled(name) if self._enabled is None else self._enabled):
            raise _Refusal("not_enabled", _not_enabled(name))
        arch = self._machine.arch(next(iter(inputs.values())))
        if not arch:
            raise _Refusal("no_gpu", f"the inputs of {name} are not on a GPU")
        if unfit := _unfit(inputs):
            raise _Refusal("inputs", f"the inputs of {name} {unfit}")
        with self._lock:
            known = self._known.get((arch, dtype))
            if known is None:
                try:
                    known = self._loaded(arch, dtype)
                except _Refusal as exc:
                    known = exc
                self._known[arch, dtype] = known
        if isinstance(known, _Refusal):
            raise _Refusal(known.code, str(known))
        return known

    def _loaded(self, arch: str, dtype: str) -> _Ready:
        task = self.task
        try:
            compiler = self._machine.compiler()
        except build.NoCompilerError as exc:
            raise _Refusal("no_compiler", f"{task.name} cannot be compiled: {exc}") from exc
        stamp = _choose(self._artifacts, task.name, self._path, compiler, arch, dtype)
        source = self._path or stamp.source
        try:
            run = self._machine.load(source, task, dtype, arch)
        except (build.KernelError, KernelRefused) as exc:
            raise _Refusal("load", f"{source.name} could not be loaded: {exc}") from exc
        sizes = {name: [shape[name] for shape in stamp.shapes] for name in task.sizes}
        most = max(task.bytes(shape, dtype) for shape in stamp.shapes)
        return _Ready(run, stamp.source_sha256, {name: (min(all_), max(all_)) for name, all_ in sizes.items()}, most)

    def _in_range(self, ready: _Ready, shape: Shape, dtype: str) -> None:
        name = self.task.name
        for size, (low, high) in ready.sizes.items():
            if not low <= shape[size] <= high:
                raise _Refusal("shape", f"{name} was verified for {size} from {low} to {high}, and it is {shape[size]}")
        if (nbytes := self.task.bytes(shape, dtype)) > ready.most_bytes:
            raise _Refusal("shape", f"{name} was verified up to {ready.most_bytes:,} bytes, and needs {nbytes:,}")


def _unfit(inputs: Mapping[str, torch.Tensor]) -> str:
    """Why the kernel cannot take these tensors; empty if it can."""
    import torch

    first = next(iter(inputs.values())).device
    for name, tensor in inputs.items():
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
            return f"are not plain tensors ({name})"
        if not tensor.is_contiguous() or tensor.is_neg() or tensor.numel() == 0:
            return f"are not contiguous, or empty ({name})"
        if tensor.device != first:
            return f"lie on several devices ({name})"
        if tensor.requires_grad and torch.is_grad_enabled():
            return f"need a gradient, which no kernel computes ({name})"
    return ""


# -- what is enabled, and what was verified ----------------------------------------------------------------------------


def is_enabled(task: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether `AISP_KERNELS` names the task, or says all."""
    words = {word.strip() for word in environ.get(VARIABLE, "").split(",")}
    return task in words or ALL in words


def enable(tasks: Sequence[str], environ: Any = os.environ) -> None:
    """Add `tasks` to `AISP_KERNELS` of this process and of those that it starts."""
    before = [word for word in environ.get(VARIABLE, "").split(",") if word]
    if tasks:
        environ[VARIABLE] = ",".join(dict.fromkeys([*before, *tasks]))


def unready(task: str, dtype: str, *, enabled: bool | None = None, artifacts: Path = FOLDER) -> str:
    """Why no call could use the task's kernel here, as far as that is known without torch and a GPU; empty if one could."""
    if not (is_enabled(task) if enabled is None else enabled):
        return _not_enabled(task)
    try:
        _choose(artifacts, task, None, _compiler(), "", dtype)
    except (_Refusal, build.KernelError) as exc:
        return str(exc)
    return ""


def _not_enabled(task: str) -> str:
    return f"the generated kernel {task} is experimental and not enabled; set {VARIABLE}={task}"


def _choose(root: Path, task: str, path: Path | None, compiler: str, arch: str, dtype: str) -> Stamp:
    """The newest stamp that fits; an empty `arch` fits any. Raises `_Refusal` for the first thing that none has."""
    left = stamps(root, task)
    how = f"run `aisp-trace kernels verify FILE --task {task} --dtype {dtype}` on this machine"
    if not left:
        raise _Refusal("no_stamp", f"no verification of {task} lies in {root / 'kernels'}; {how}")
    if path is not None:
        sha256 = _digest(path)
        left = [
            one for one in left if one.source_sha256 == sha256 or (one.problem and sha256.startswith(one.source_sha256))
        ]
        if not left:
            raise _Refusal("source", f"{path.name} is not a source of {task} that was verified; {how}")
    problem = next((one.problem for one in left if one.problem), "")
    left = [one for one in left if not one.problem]
    if not left:
        raise _Refusal("edited", f"the verification of {task} is not believed: {problem}")

    def keep(code: str, has: Callable[[Stamp], str], wanted: str, text: str) -> None:
        nonlocal left
        fitting = [one for one in left if has(one) == wanted]
        if not fitting:
            others = ", ".join(sorted({has(one) for one in left}))
            raise _Refusal(code, f"{text.format(others)}; {how}")
        left = fitting

    if arch:
        keep("architecture", lambda one: one.arch, arch, f"{task} was verified on {{}}, and this GPU is {arch}")
    keep("compiler", lambda one: one.compiler, compiler, f"{task} was verified with {{}}, and here is {compiler}")
    keep("dtype", lambda one: one.dtype, dtype, f"{task} was verified for {{}}, and is asked for {dtype}")
    keep("refused", lambda one: one.status, VERIFIED, f"the verdict on {task} was {{}}")
    shaped = [one for one in left if one.shapes and all(set(s) == set(find(task).sizes) for s in one.shapes)]
    if not shaped:
        raise _Refusal("shape", f"the verification of {task} names no shapes; {how}")
    stamp = shaped[0]
    if path is None and _digest(stamp.source) != stamp.source_sha256:
        raise _Refusal("source", f"{stamp.source} is not what was verified; {how}")
    return stamp


def _digest(source: Path) -> str:
    try:
        return digest_of(read_bytes(source, KERNEL))
    except InputError as exc:
        raise _Refusal("source", str(exc)) from exc
