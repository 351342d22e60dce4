"""What ``import aisp_trace`` offers as ``aisp_trace.check``."""

from __future__ import annotations

from pathlib import Path

from ...traces.run import RUNS_DIR, load_run, newest_run
from .judged import Judged, analyses_of_run, judge_run


def check_run(run: str | Path | None = None, expectations: str | Path | None = None) -> Judged:
    """The verdicts on a run, as ``aisp-trace check`` gives them; nothing is written.

    `run` is a run folder, by default the newest below ``./aisp-runs``. `expectations` is a folder of ``expectations_*.json``, by
    default ``./expectations``, else the package's. Raises `InputError` for what is no run or cannot be read, `UsageError` for a
    folder that does not exist.
    """
    found = newest_run(Path(RUNS_DIR)) if run is None else load_run(Path(run))
    return judge_run(found, analyses_of_run(found), None if expectations is None else Path(expectations))
