"""Stage ranges: what a workload writes around its work so that a trace can be read stage by stage.

    with measured():                        # the recording gate, and the variant's window
        for batch in batches:
            with iteration():               # one complete unit of required work
                with stage("load", kind="h2d", nbytes=batch.nbytes):
                    ...

Ranges go where a recorder listens, decided once by the environment when this module is imported:

- under nsys (``AISP_TRACE_RECORDER=nsys``, or any nsys that injected itself): NVTX push/pop ranges of domain ``aisp``,
  category = kind, payload = bytes;
- with ``AISP_TRACE_RECORDER=program``, in a program that torch.profiler records from outside: to that (``torch_program.py``);
- with ``AISP_TRACE_RECORDER=torch``: `torch.profiler.record_function`, from the start of `measured` to its end; the
  profiler itself is started and stopped by `measured` and writes into the folder ``AISP_TRACE_OUTPUT``;
- otherwise nowhere: `stage` then costs well under a microsecond, and neither nvtx nor torch is imported.

With ``AISP_TRACE_ANSWER`` set (a user's own command, while it is timed) `iteration` also writes when it began and ended
(``answer.py``). It never synchronises a device: an iteration must wait for its own work, or its time is the host's.

Ranges nest, may be opened by any thread, and are closed when their body raises.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar, cast

from ..traces.errors import RecorderError, UsageError
from .answer import ANSWER_VARIABLE, AnswerFile

if TYPE_CHECKING:
    from .torch_recorder import TorchRecording

DOMAIN: Final = "aisp"
MEASURED: Final = "measured"
ITERATION: Final = "iteration"

RECORDER_VARIABLE: Final = "AISP_TRACE_RECORDER"
OUTPUT_VARIABLE: Final = "AISP_TRACE_OUTPUT"

KINDS: Final = frozenset({"compute", "h2d", "d2h", "d2d", "p2p", "comm", "alloc", "host"})
"""What a stage may say it does; the same words as ``traces.model.STAGE_KINDS``, which would import polars."""

INJECTED: Final = ("NVTX_INJECTION64_PATH", "NVTX_INJECTION32_PATH", "NSYS_PROFILING_SESSION_ID")
"""Variables nsys sets in the programs it traces (read off one under 2022.4)."""

Emit = Callable[[str, str | None, int | None], Any]


Function = TypeVar("Function", bound=Callable[..., Any])


class Range(Protocol):
    """What `stage` gives: for a ``with`` block, or a decorator of a function, each of whose calls is then a range."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...

    def __call__(self, function: Function, /) -> Function: ...


class _Nothing:
    """The range that goes nowhere; one shared value, so that opening it allocates nothing."""

    __slots__ = ()

    def __call__(self, function: Function) -> Function:
        return function

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> Literal[False]:
        return False


_NOTHING: Final = _Nothing()


class _Later:
    """A range of the torch recorder, which listens only inside `measured`: a decorated function asks at every call."""

    __slots__ = ("_asked", "_opened")

    def __init__(self, *asked: Any) -> None:
        self._asked = asked

    def __enter__(self) -> None:
        self._opened = None if _emit is None else _emit(*self._asked)
        if self._opened is not None:
            self._opened.__enter__()

    def __exit__(self, *exc: Any) -> Literal[False]:
        if self._opened is not None:
            self._opened.__exit__(*exc)
        return False

    def __call__(self, function: Function) -> Function:
        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with _Later(*self._asked):
                return function(*args, **kwargs)

        return cast(Function, inside)


def stage(name: str, kind: str | None = None, nbytes: int | None = None) -> Range:
    """A range called `name`, around a ``with`` block or, as a decorator, around each call of a function (not of a coroutine
    or generator, whose call ends before its work). `kind` is one of `KINDS`; `nbytes` is what the stage moves, in bytes.

    Raises `UsageError` for a kind that does not exist, whether or not anything records.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(
            f"stage {name!r} has kind {kind!r}, which does not exist; kinds are {', '.join(sorted(KINDS))}"
        )
    if _recorder in ("torch", "program"):
        return _Later(name, kind, nbytes)
    return _NOTHING if _emit is None else _emit(name, kind, nbytes)


def record_program(emit: Emit) -> None:
    """Send the ranges of this process to `emit`, which records a program that knows of no recorder (``torch_program.py``)."""
    global _emit
    _emit = emit


def iteration() -> AbstractContextManager[object]:
    """The range around one complete unit of required work, its closing synchronisation included."""
    emit = _emit
    opened = _NOTHING if emit is None else emit(ITERATION, None, None)
    return opened if _answers is None else _answers.iteration(opened)


def measured() -> AbstractContextManager[object]:
    """The range around all measured iterations of one variant; opens and closes the recording.

    Raises `RecorderError` if the torch recorder was asked for but torch or its output folder is missing.
    """
    if _recorder == "torch":
        return _TorchMeasured()
    opened = _NOTHING if _emit is None else _emit(MEASURED, None, None)
    return opened if _answers is None else _answers.measured(opened)


class _TorchMeasured:
    """Runs the torch recorder around the range `measured`; a body that raises leaves no trace behind."""

    _range: AbstractContextManager[object]
    _recording: TorchRecording

    def __enter__(self) -> None:
        global _emit
        if _emit is not None:
            raise UsageError("measured() was opened inside measured(); a traced process has exactly one")
        folder = os.environ.get(OUTPUT_VARIABLE)
        if not folder:
            raise RecorderError(f"the torch recorder was asked for, but {OUTPUT_VARIABLE} names no folder to write to")
        from .torch_recorder import TorchRecording

        self._recording = TorchRecording(Path(folder))
        self._recording.start()
        _emit = self._recording.range
        self._range = _emit(MEASURED, None, None)
        self._range.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        global _emit
        self._range.__exit__(kind, value, traceback)
        _emit = None
        self._recording.stop()
        if kind is None:
            self._recording.write()
        return False


def _nvtx_emitter() -> Emit | None:
    """Opens NVTX ranges, or null where the nvtx package is not installed."""
    from .nvtx_ranges import nvtx_ranges

    try:
        return nvtx_ranges(DOMAIN)
    except ImportError:
        return None


def _choose(environ: Mapping[str, str]) -> tuple[str | None, Emit | None]:
    """(recorder, emitter) that the environment asks for; the torch recorder's emitter only lives inside `measured`."""
    asked = environ.get(RECORDER_VARIABLE)
    if asked not in (None, "", "nsys", "torch", "program"):
        raise UsageError(f"{RECORDER_VARIABLE} is {asked!r}; it may be nsys or torch")
    if asked == "program":
        return "program", None
    if asked == "torch":
        # Each process would profile itself into the one folder; rank 0 of several is the one that is recorded.
        return ("torch", None) if environ.get("RANK", "0") in ("", "0") else (None, None)
    if asked == "nsys" or any(environ.get(name) for name in INJECTED):
        return "nsys", _nvtx_emitter()
    return None, None


_recorder: str | None
_emit: Emit | None
_recorder, _emit = _choose(os.environ)
_answers = AnswerFile(os.environ[ANSWER_VARIABLE]) if os.environ.get(ANSWER_VARIABLE) else None
