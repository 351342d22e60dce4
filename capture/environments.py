"""What the Python of a program of the user's can import: recorders depend on that environment, not on this one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .processes import ask

NVTX: Final = "nvtx==0.2.11"
"""The version that every nsys from 2022.4 on records."""

_ASK: Final = """
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
sys.path[:] = [path for path in sys.path if path]
def look(name, found):
    try:
        return version(name) if found(name) else None
    except PackageNotFoundError:
        return ""
    except Exception:
        return None
print("".join(" -" if one is None else " =" + one for one in (look("nvtx", __import__), look("torch", find_spec))))
"""
"""Takes some 0.1 s: torch, whose import takes seconds, is only looked for. Python 3.8 can run it."""

_PASSED_ON: Final = ("-E", "-I", "-S", "-s")
_OTHERS: Final = ("-B", "-O", "-OO", "-P", "-q", "-u", "-v")
"""Options of Python without a value; the first change what can be imported."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The versions of nvtx and torch in the environment of `python`: null for one that cannot be imported, empty where nobody
    knows its version."""

    python: str
    nvtx: str | None
    torch: str | None


def environment_of(command: Sequence[str]) -> Environment | None:
    """The environment that `command` runs in; null where it starts with no Python, or with one that does not answer."""
    python = _python(command)
    answer = ask([*python, "-c", _ASK]) if python else None
    words = (answer or "").strip().rpartition("\n")[2].split()
    if len(words) != 2 or not all(word == "-" or word.startswith("=") for word in words):
        return None
    nvtx, torch = (None if word == "-" else word[1:] for word in words)
    return Environment(python[0], nvtx, torch)


def _python(command: Sequence[str]) -> list[str]:
    """The interpreter that `command` starts, with those of its options that change what it imports; empty without one."""
    program = shutil.which(command[0]) if command else None
    if program is None:
        return []
    if Path(program).name.startswith("python"):
        options: list[str] = []
        for word in command[1:]:
            if word not in (*_PASSED_ON, *_OTHERS):
                break
            options += [word] if word in _PASSED_ON else []
        return [program, *options]
    try:
        with Path(program).open("rb") as file:
            first = file.readline(400).decode("utf-8", "replace").split()
    except OSError:
        return []
    # A script of the environment's own, such as torchrun: its first line names the interpreter.
    python = first[0].removeprefix("#!") if first and first[0].startswith("#!") else ""
    return [python] if Path(python).name.startswith("python") and Path(python).is_file() else []
