"""Into every Python process of a recorded program: this folder stands first on its PYTHONPATH, and Python imports this by itself.

It runs the ``sitecustomize`` that it hides, takes its folder off the module path again, and lets ``program.py`` wait for torch.
The program and all its modules are as they were. Nothing here may ever stop it: what fails is said in one line on stderr.
Untraced rounds load this, too, so it imports next to nothing: 2 ms of each process.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

HERE = os.path.realpath(__file__).rpartition("/")[0]
CAPTURE = HERE.rpartition("/")[0]


def _load(name: str, path: str) -> ModuleType:
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a module")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run_hidden() -> None:
    """Run the sitecustomize that the environment has without this one, if it has one."""
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != HERE]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.origin is not None:
        _load("sitecustomize", spec.origin)


_run_hidden()
try:
    _load("_aisp_trace_program", f"{CAPTURE}/program.py").install()
    _load("_aisp_trace_nvtx_forks", f"{CAPTURE}/nvtx_forks.py").install()
except Exception as exc:
    print(f"aisp-trace: this process is not recorded by torch's calls: {type(exc).__name__}: {exc}", file=sys.stderr)
