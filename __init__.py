"""aisp-trace: every nanosecond of a run, and of a speedup, attributed exactly once.

The folders of this repository are the sub-packages; arrows point down only (``tests/test_architecture.py``):

    traces/        what a recording is: tables, readers (nsys/, kineto/), the run folder, scrubbed copies (scrub/)
    kernels/       CUDA sources and their build
    workloads/     the case studies, one file each
    capture/       recorders, rounds, host facts, ``stage()``
    analyze/       pure functions from tables to numbers: attribution/, accounts/, comparison/
    expectations/  claims/ written down beforehand, metrics/ they name, judging/, accepting/, comparing/
    report/        every face: page/, terminal/, documents/ (JSON), ci/, export/ for other programs
    cli/           the commands
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from .traces.shown import show_with

if TYPE_CHECKING:  # for editors and type checkers; at run time nothing is imported before it is asked for
    from .analyze.api import analyze_recording, open_recording, predict_recording
    from .capture.answer import state_work as state_work
    from .capture.stages import iteration as iteration
    from .capture.stages import measured as measured
    from .capture.stages import stage as stage
    from .expectations.comparing.api import compare_recordings
    from .expectations.judging.api import check_run
    from .report.figures import figure as figure
    from .report.frames import frame as frame
    from .traces.frames import trace_of_tables

    open = open_recording
    analyze = analyze_recording
    compare = compare_recordings
    check = check_run
    predict = predict_recording
    from_tables = trace_of_tables
    __version__: str

OFFERED: Final = {
    "open": ("analyze.api", "open_recording"),
    "analyze": ("analyze", None),
    "compare": ("expectations.comparing.api", "compare_recordings"),
    "check": ("expectations.judging.api", "check_run"),
    "predict": ("analyze.api", "predict_recording"),
    "from_tables": ("traces.frames", "trace_of_tables"),
    "frame": ("report.frames", "frame"),
    "figure": ("report.figures", "figure"),
    "stage": ("capture.stages", "stage"),
    "iteration": ("capture.stages", "iteration"),
    "measured": ("capture.stages", "measured"),
    "state_work": ("capture.answer", "state_work"),
    "__version__": ("traces.version", "version"),
}
"""Name -> where it is. Programs that are recorded use the last four functions; all but `state_work` need no library."""


def __getattr__(name: str) -> Any:
    if name not in OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = OFFERED[name]
    found: Any = importlib.import_module(f".{module}", __name__)
    if attribute is not None:
        found = getattr(found, attribute)
    value = found() if name == "__version__" else found
    globals()[name] = value
    return value


def _html(result: Any) -> str:
    """How results show themselves in a notebook; what draws them is imported when the first one does."""
    found: str = importlib.import_module(".report.notebook", __name__).html(result)
    return found


show_with(_html)


def __dir__() -> list[str]:
    return sorted({*globals(), *OFFERED})
