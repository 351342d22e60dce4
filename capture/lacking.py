"""What the programs of a plan lack for their recordings to say anything, asked of their own Pythons before anything runs."""

from __future__ import annotations

import shlex

from .environments import NVTX, environment_of
from .plan import Plan


def without_nvtx(plan: Plan) -> str:
    """Which programs nsys would see no ranges of, since their Python has no nvtx, with the remedy; empty if none or unknown.

    Only a program that a Python is named for can be asked, as for every script. `capture` notes the others when it has recorded
    them (``nsys.no_nvtx``).
    """
    if plan.recorder != "nsys" or not plan.foreign:
        return ""
    programs = {v.name: tuple(v.program or plan.program) for v in plan.variants}
    asked = {name: environment_of(words) for name, words in programs.items()}
    lacking = {name: one.python for name, one in asked.items() if one is not None and one.nvtx is None}
    if not lacking:
        return ""
    whose = " and ".join(lacking) if len(programs) > 1 else "the program"
    install = ", ".join(f"`{shlex.quote(python)} -m pip install {NVTX}`" for python in dict.fromkeys(lacking.values()))
    nothing = "stages and iterations" if plan.device == "cuda" else "anything, so recordings are left out"
    alone = ", or time the pair without recording it: --profile none" if plan.source == "pair" else ""
    return f"the environment of {whose} lacks the package nvtx, without which nsys does not see {nothing}: run {install}{alone}"
