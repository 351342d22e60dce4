"""compute-sanitizer over a few small calls, where it is installed and supports the device.

Memory has exactly the operands' sizes then, and torch keeps none back, so that an address beyond the end belongs to nobody.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .evidence import Sanitized
from .plan import Plan
from .process import Child, Conversation

TOOLS: Final = ("memcheck", "racecheck", "initcheck")
FOUND: Final = 86
"""The exit code that means: an error was found. Nobody else uses it."""

PATIENCE: Final = 10.0
"""By which everything may take longer."""

VARIABLES: Final = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def find_sanitizer(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The program, of CUDA_HOME, of PATH or of /usr/local/cuda; null if there is none."""
    home = environ.get("CUDA_HOME") or environ.get("CUDA_PATH") or "/usr/local/cuda"
    places = [Path(home) / "bin" / "compute-sanitizer", Path("/usr/local/cuda/bin/compute-sanitizer")]
    on_path = shutil.which("compute-sanitizer", path=environ.get("PATH", os.defpath))
    return next((place for place in (*([Path(on_path)] if on_path else []), *places) if place.is_file()), None)


def run_tool(program: Path, tool: str, child: Child, plan: Plan) -> Sanitized:
    """What `tool` finds in the calls of `plan`."""
    log = child.folder / f"sanitizer-{tool}.log"
    words = [str(program), "--tool", tool, "--error-exitcode", str(FOUND), "--log-file", str(log)]
    talk = Conversation(child, plan, random.SystemRandom(), recorded=True, bare=True, patience=PATIENCE)
    exit_code = child.run_alone(talk, words, VARIABLES)
    heard = talk.heard
    said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return told(tool, exit_code, said, None if heard.failure is None else heard.failure.text)


def told(tool: str, exit_code: int, log: str, failure: str | None) -> Sanitized:
    """The outcome, from the exit code and the tool's own log."""
    lines = [line.removeprefix("=========").strip() for line in log.splitlines()]
    summary = next((line for line in lines if re.search(r"(ERROR|RACECHECK) SUMMARY", line)), "")
    count = re.search(r"SUMMARY: (\d+)", summary)
    first = next(
        (line for line in lines if re.match(r"(Invalid|Error|Uninitialized|Warning|Out-of-range|Race)", line)), ""
    )
    if "not supported" in log or not count:
        why = next(
            (line for line in lines if "not supported" in line), failure or f"it ended with exit code {exit_code}"
        )
        return Sanitized(tool, None, why)
    if int(count[1]) == 0 and exit_code != FOUND:
        return Sanitized(tool, True, "no errors" if failure is None else f"no errors, but {failure}")
    return Sanitized(tool, False, first or summary)
