"""What the programs of a plan lack for their recordings to say anything, asked of their own Pythons before anything runs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

from .plan import Plan

ASKS: Final = "import importlib.util, sys; sys.exit(11 if importlib.util.find_spec('nvtx') is None else 0)"
"""11: nvtx is missing. Any other exit code is no answer: 1 is what Python leaves for a mistake of its own."""

ISOLATING: Final = ("-S", "-s", "-E", "-I")
"""Flags by which Python finds other packages than without."""

TIMEOUT_S: Final = 30.0


def without_nvtx(plan: Plan) -> str:
    """Which programs nsys would see no ranges of, since their Python has no nvtx, with the remedy; empty if none or unknown.

    Only a program that a Python is named for can be asked, as for every script. `capture` notes the others when it has recorded
    them (``nsys.no_nvtx``).
    """
    if plan.recorder != "nsys" or not plan.foreign:
        return ""
    programs = {v.name: tuple(v.program or plan.program) for v in plan.variants}
    lacking = {name: words[0] for name, words in programs.items() if _lacks_nvtx(words)}
    if not lacking:
        return ""
    whose = " and ".join(lacking) if len(programs) > 1 else "the program"
    install = ", ".join(f"`{python} -m pip install nvtx==0.2.11`" for python in dict.fromkeys(lacking.values()))
    nothing = "stages and iterations" if plan.device == "cuda" else "anything, so recordings are left out"
    alone = ", or time the pair without recording it: --profile none" if plan.source == "pair" else ""
    return f"the environment of {whose} lacks the package nvtx, without which nsys does not see {nothing}: run {install}{alone}"


def _lacks_nvtx(words: Sequence[str]) -> bool:
    if not Path(words[0]).name.startswith("python"):
        return False
    flags = [word for word in takewhile(lambda word: word.startswith("-"), words[1:]) if word in ISOLATING]
    try:
        asked = subprocess.run([words[0], *flags, "-c", ASKS], capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 11
