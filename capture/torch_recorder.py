"""The embedded recorder: torch.profiler around the measured iterations, in the workload's own process.

It writes two files into its folder:

    trace.json.gz   torch.profiler's Chrome trace; stages are its events named ``aisp::<name>``
    stages.json     what those events cannot carry (the profiler drops annotation arguments):
                    {"schema": "aisp-trace/stages/1", "ranges": [{"name", "kind", "nbytes", "tid", "index"}]}

`tid` is the operating system's thread id, as in the trace; `index` counts the ranges of that (tid, name) in the order
in which they were opened, from 0, so the n-th event of a name on a thread is the n-th row here.

Ranges are opened through torch's C++ range where it has one. `torch.profiler.record_function` goes through the operator
dispatcher, which gives the interpreter's lock up and takes it again: on two busy cores that alone serialised a threaded
pipeline (copies hidden under compute 0.45 with it, 0.95 with the C++ range or no range at all).
"""

from __future__ import annotations

import contextlib
import gzip
import re
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from ..traces.documents import STAGES as STAGES_KIND
from ..traces.documents import read
from ..traces.errors import InputError, RecorderError
from ..traces.run import write_json

TRACE: Final = "trace.json.gz"
STAGES: Final = "stages.json"
SCHEMA: Final = "aisp-trace/stages/1"
PREFIX: Final = "aisp::"
"""Tells our ranges from operators and from ranges of other libraries; readers take it off again."""
PHASE_PREFIX: Final = "aisp.phase::"
"""Tells the phases of a program of the user's (``phases.py``)."""

_EVENT: Final = re.compile(rb'"cat": "(?!Trace"|overhead")')
"""An event of the program: the category "Trace" is the profiler's own span, "overhead" what it cost."""


class TorchRecording:
    """One recording. `start`, any number of `range`, `stop`, `write`, in this order."""

    def __init__(self, folder: Path) -> None:
        """Raises `RecorderError` if torch is not installed."""
        try:
            import torch
        except ImportError as exc:
            raise RecorderError(
                "the torch recorder was asked for, but torch is not installed; install aisp-trace[workloads]"
            ) from exc
        self._torch = torch
        self._folder = folder
        self._lock = threading.Lock()
        self._ranges: list[dict[str, Any]] = []
        self._counts: dict[tuple[int, str], int] = {}
        self._profile: Any = None

    def start(self) -> None:
        """Start the profiler on all threads, those that exist already included."""
        profiler = self._torch.profiler
        activities = [profiler.ProfilerActivity.CPU]
        if self._torch.cuda.is_available():
            activities.append(profiler.ProfilerActivity.CUDA)
        self._profile = profiler.profile(activities=activities, experimental_config=self._all_threads())
        self._profile.start()

    def _all_threads(self) -> Any:
        """The setting without which ranges of worker threads vanish; null where torch does not know it, such as 2.6."""
        config = self._torch._C._profiler._ExperimentalConfig
        try:
            return config(profile_all_threads=True)
        except TypeError:
            return None

    def range(self, name: str, kind: str | None, nbytes: int | None) -> contextlib.AbstractContextManager[object]:
        """A context manager for one range; noted in the side file when it is entered."""
        return _Range(self, name, kind, nbytes)

    def note(self, name: str, kind: str | None, nbytes: int | None) -> None:
        """Count a range that the calling thread is about to open."""
        tid = threading.get_native_id()
        with self._lock:
            index = self._counts.get((tid, name), 0)
            self._counts[tid, name] = index + 1
            self._ranges.append({"name": name, "kind": kind, "nbytes": nbytes, "tid": tid, "index": index})

    def record_function(self, name: str, prefix: str = PREFIX) -> contextlib.AbstractContextManager[object]:
        """torch's own range."""
        fast = getattr(self._torch._C._profiler, "_RecordFunctionFast", self._torch.profiler.record_function)
        made: contextlib.AbstractContextManager[object] = fast(prefix + name)
        return made

    def stop(self) -> None:
        """Stop the profiler."""
        self._profile.stop()

    def write(self, name: str | None = None, *, rank: str | None = None) -> None:
        """Write both files; the side file last, so that its presence says that the trace is whole.

        They are called `TRACE` and `STAGES`, or `name` with their endings; `rank` is kept in the latter.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        trace, stages = (TRACE, STAGES) if name is None else (f"{name}.json.gz", f"{name}.{STAGES}")
        self._profile.export_chrome_trace(str(self._folder / trace))
        said = {} if rank is None else {"rank": rank}
        write_json(self._folder / stages, {"schema": SCHEMA, "ranges": self._ranges, **said})


class _Range:
    """Notes itself and opens torch's range on entry; may be entered once."""

    __slots__ = ("_args", "_inner", "_recording")

    def __init__(self, recording: TorchRecording, name: str, kind: str | None, nbytes: int | None) -> None:
        self._recording = recording
        self._args = (name, kind, nbytes)
        self._inner = recording.record_function(name)

    def __enter__(self) -> None:
        self._recording.note(*self._args)
        self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self._inner.__exit__(kind, value, traceback)
        return False


def recorded_ranges(folder: Path) -> int:
    """How many ranges the side file in `folder` lists; 0 if there is none or it is not one."""
    try:
        data = read(folder / STAGES, STAGES_KIND)
    except InputError:
        return 0
    ranges = data.get("ranges") if isinstance(data, dict) else None
    return len(ranges) if isinstance(ranges, list) else 0


def any_event(trace: Path) -> bool:
    """Whether torch.profiler's `trace` holds anything but the profiler's own events."""
    with gzip.open(trace) as file:
        return any(_EVENT.search(line) for line in file)
