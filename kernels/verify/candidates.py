"""A candidate as one function: a shared library made of a .cu file, or a .py file with `run`.

Imported by the child before the candidate exists, so that what is used here is what Python and torch brought.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

from ...traces.documents import CHILD, parse
from ...traces.errors import InputError

if TYPE_CHECKING:
    from ..task import Shape, Task

DTYPES: Final = {"float32": 0, "float16": 1, "bfloat16": 2}
"""Numbers of the C interface."""

INTERFACE: Final = 1
MODULE: Final = "aisp_candidate"

CDLL, POINTER, LONG, CALLED = ctypes.CDLL, ctypes.c_void_p, ctypes.c_longlong, ctypes.c_int
CURRENT: Final = torch.cuda.current_stream

Tensors = Mapping[str, torch.Tensor]
Candidate = Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor], "Shape"], Any]


class CandidateError(Exception):
    """A candidate that does not keep to its interface. One sentence."""


def load(path: str, task: Task, dtype: str, shapes: Sequence[Shape]) -> Candidate:
    """The candidate in `path`, set up; raises whatever its own code does, or `CandidateError`."""
    return _library(path, task, dtype) if path.endswith(".so") else _module(path, task, dtype, shapes)


def _library(path: str, task: Task, dtype: str) -> Candidate:
    library = CDLL(path)
    try:
        describe, launch, words = library.aisp_describe, library.aisp_launch, library.aisp_error
    except AttributeError as exc:
        raise CandidateError("it lacks aisp_describe, aisp_launch or aisp_error of the C interface") from exc
    describe.restype = words.restype = ctypes.c_char_p
    words.argtypes = [CALLED]
    launch.restype = CALLED
    launch.argtypes = [CALLED, POINTER, POINTER, POINTER, POINTER]
    _check_description(describe(), task, dtype)
    names_in = [operand.name for operand in task.inputs]
    names_out = [operand.name for operand in task.outputs]

    def run(inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor], shape: Shape) -> None:
        ins = (POINTER * len(names_in))(*[inputs[name].data_ptr() for name in names_in])
        outs = (POINTER * len(names_out))(*[outputs[name].data_ptr() for name in names_out])
        sizes = (LONG * len(task.sizes))(*[shape[name] for name in task.sizes])
        stream = CURRENT().cuda_stream if outputs[names_out[0]].is_cuda else None
        code = launch(DTYPES[dtype], ins, outs, sizes, stream)
        if code != 0:
            said = (words(code) or b"").decode("utf-8", "replace")
            raise CandidateError(f"aisp_launch returned {code} ({said or 'without words'})")

    return run


def _check_description(said: bytes | None, task: Task, dtype: str) -> None:
    try:
        described = parse(said or b"", CHILD, "aisp_describe")
    except InputError as exc:
        raise CandidateError("what aisp_describe returns is not JSON") from exc
    if not isinstance(described, dict) or described.get("interface") != INTERFACE:
        raise CandidateError(f"aisp_describe does not say interface {INTERFACE}")
    if described.get("task") != task.name:
        raise CandidateError(f"it was made for the task {described.get('task')!r}, not for {task.name!r}")
    if dtype not in (described.get("dtypes") or ()):
        raise CandidateError(f"it does not list {dtype} among its dtypes")


def _module(path: str, task: Task, dtype: str, shapes: Sequence[Shape]) -> Candidate:
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if spec is None or spec.loader is None:
        raise CandidateError("it cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    run = getattr(module, "run", None)
    if not callable(run):
        raise CandidateError("it defines no function run(inputs, outputs)")
    if (setup := getattr(module, "setup", None)) is not None:
        setup(task.name, [dict(shape) for shape in shapes], dtype)

    def call(inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor], shape: Shape) -> Any:
        return run(inputs, outputs)

    return call
