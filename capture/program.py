"""Inside a recorded or timed program of the user's: wait until it imports torch, then time its training steps, put phases around
torch's own calls and, if that is the recorder, start torch.profiler; in an untraced round only the first. The program is not
edited, and nothing happens in a process that never imports torch.

Runs in the user's interpreter, which may lack this package: loaded as a single file it imports the standard library alone, and
makes the package importable by its name only where it is not (``_package``). Every Python process of a round loads it, torch or
not, so it does without modules that take milliseconds (typing, pathlib, importlib.abc).

    AISP_TRACE_PROGRAM   "nsys" or "torch": the recorder; "steps": none, an untraced round
    AISP_TRACE_ANSWER    the file that gets the ends of training steps, if any
    AISP_TRACE_OUTPUT    torch: the folder that gets a trace of each process
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

PROGRAM_VARIABLE = "AISP_TRACE_PROGRAM"
ANSWER_VARIABLE = "AISP_TRACE_ANSWER"
STEPS = "steps"
HERE = os.path.realpath(__file__).rpartition("/")[0]
INSIDE = f"{HERE}/inside"
"""The folder that the recorded program's PYTHONPATH begins with."""


def environment(recorder: str, inherited: str | None) -> dict[str, str]:
    """The variables that get this into the Python processes of a program; `inherited` is the PYTHONPATH that it has anyway."""
    path = f"{INSIDE}{os.pathsep}{inherited}" if inherited else INSIDE
    return {"PYTHONPATH": path, PROGRAM_VARIABLE: recorder}


def install() -> None:
    """Have what the environment asks for begin once torch has been imported."""
    if os.environ.get(PROGRAM_VARIABLE):
        sys.meta_path.insert(0, _AfterTorch())


class _AfterTorch:
    """A finder of modules: finds torch as the others do, with a loader that says when it is done; then it leaves."""

    def __init__(self) -> None:
        self._asked = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of torch, null for all else."""
        if fullname != "torch" or self._asked:
            return None
        self._asked = True
        try:
            spec = find_spec(fullname)
        finally:
            self._asked = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Telling(spec.loader, self)  # type: ignore[assignment]  # one in all but its base class
        return spec


class _Telling:
    """A loader of modules: runs the module as its own loader does, and begins to record when that has worked."""

    def __init__(self, loader: Loader, finder: _AfterTorch) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As torch's own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Import torch, then begin."""
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            _begin(os.environ[PROGRAM_VARIABLE])
        except Exception as exc:  # the program runs on, whatever is wrong with its recording
            print(f"aisp-trace: torch's calls are not recorded: {type(exc).__name__}: {exc}", file=sys.stderr)


def _begin(recorder: str) -> None:
    _package()
    if answer := os.environ.get(ANSWER_VARIABLE):
        importlib.import_module("aisp_trace.capture.step_times").time_steps(answer, recorder != STEPS)
    if recorder == STEPS:
        return
    phases = importlib.import_module("aisp_trace.capture.phases")
    if recorder == "torch":
        importlib.import_module("aisp_trace.capture.torch_program").record(phases)
    else:
        phases.put_around_torch(phases.by_nvtx())


def _package() -> None:
    """Make ``aisp_trace`` the package that this file belongs to, where the program's environment has none."""
    if "aisp_trace" in sys.modules or find_spec("aisp_trace") is not None:
        return
    root = HERE.rpartition("/")[0]
    spec = spec_from_file_location("aisp_trace", f"{root}/__init__.py", submodule_search_locations=[root])
    if spec is None or spec.loader is None:
        raise ImportError(f"{root} is not a package")
    module = module_from_spec(spec)
    sys.modules["aisp_trace"] = module
    spec.loader.exec_module(module)
