"""What holds for every test: no example races a clock, and nothing of the user's folders or environment is read or changed."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

try:
    from aisp_trace.tests.examples import examples
except ModuleNotFoundError as error:
    raise pytest.UsageError(
        f"{error.name} is not installed for this Python; `make test TESTS=tests/test_x.py` runs tests in .venv"
    ) from error

# How long an example takes depends on the machine and on what else runs there. In CI the same examples are tried every time, so
# that a failure there is the change's and can be repeated; elsewhere each run tries others.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", settings.get_profile("here"), derandomize=True, database=None, max_examples=examples(100)
)
settings.load_profile("ci" if os.environ.get("CI") else "here")

FOLDERS = {
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "config",
    "XDG_DATA_HOME": "data",
    "XDG_STATE_HOME": "state",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
}
"""Variables that say where programs keep what they need again."""

UNSET = (
    *("COLORFGBG", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "LINES", "NO_COLOR", "PY_COLORS"),
    *("AISP_GIT_COMMIT", "AISP_GIT_DIRTY", "AISP_TRACE_ANSWER", "AISP_TRACE_OUTPUT", "AISP_TRACE_RECORDER"),
    *("AISP_TRACE_NO_NUMBA", "LOCAL_RANK", "RANK", "WORLD_SIZE"),
)
"""Variables that change what the product says or does, and that CI systems, launchers and shells set."""

LONGEST_FIRST = (
    "test_workloads_end_to_end.py",  # records every workload, one after the other
    "test_oracle.py",
    "test_recorder_nsys.py",
    "test_kernel_emit.py",
    "test_kernel_emulated.py",
    "test_workloads_ddp.py",
    "test_selection.py",
    "test_speed.py",
    "test_nsys_pages.py",
    "test_twins.py",
)
"""Files that would leave one of two processes working alone at the end."""


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: some compile when they are."""
    home = tempfile.mkdtemp(prefix="aisp-trace-tests-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    os.environ |= {name: f"{home}/{folder}" for name, folder in FOLDERS.items()}
    for name in UNSET:
        os.environ.pop(name, None)
    live: Any = import_module("aisp_trace.report.terminal.live")
    live.PATIENCE_S = 3600.0  # a busy machine would add lines to stderr


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_runtest_setup() -> None:
    """Hypothesis watches the collector, for deadlines that no test has; a signal's error that comes up in there is lost."""
    gc.callbacks[:] = [callback for callback in gc.callbacks if not callback.__module__.startswith("hypothesis.")]
