"""A pair of the user's own commands: from what was typed to variants with a program each.

    --baseline 'python train.py' --rung pinned='python train.py --pin' --optimized 'python train.py --pin --streams 3'

Commands are split into words as a shell would split them, and run without one; a script of Python's may stand alone. What cannot
work is said before anything runs: a program that does not exist, words that only a shell understands, two variants with the same
command.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ..traces.content import NAME
from ..traces.errors import UsageError
from .plan import PlannedVariant, script_name

SHELL_WORDS: Final = ("|", "||", "&&", "&", ">", ">>", "<", ";")
TIMINGS: Final = ("auto", "iterations", "processes")


def pair_variants(
    baseline: str, rungs: Sequence[str], optimized: str, started: Callable[[Sequence[str]], list[str]] = list
) -> list[PlannedVariant]:
    """The variants of a pair in order; each of `rungs` is ``NAME=CMD``. Raises `UsageError` for what cannot be run.

    `started` answers with the words that start a command, such as Python's before a script's.
    """
    asked = [("baseline", "--baseline", baseline)]
    for rung in rungs:
        name, equals, command = rung.partition("=")
        if not equals or not NAME.fullmatch(name):
            raise UsageError(
                f"--rung is {rung!r}; it must be NAME='CMD', with a name of letters, digits, '_', '.' and '-'"
            )
        asked.append((name, f"--rung {name}", command))
    asked.append(("optimized", "--optimized", optimized))
    variants: list[PlannedVariant] = []
    for name, option, command in asked:
        words = _words(option, command, started)
        for other in variants:
            if other.name == name:
                raise UsageError(f"two variants are called {name!r}; give the rung another name")
            if tuple(other.program or ()) == words:
                raise UsageError(
                    f"{other.name} and {name} are the same command, `{shlex.join(words)}`; a pair needs two that differ"
                )
        variants.append(PlannedVariant(name, shlex.join(words), words))
    return variants


def pair_name(asked: str | None, variants: Sequence[PlannedVariant], taken: Sequence[str]) -> str:
    """What expectations call the pair: `asked`, else the scripts of baseline and optimized: ``train``, ``old_vs_new``.

    Raises `UsageError` for a name that is none, or that is one of `taken`: another workload's claims would judge it.
    """
    first, last = (script_name(variants[i].program or ()) for i in (0, -1))
    name = asked if asked is not None else first if first == last else f"{first}_vs_{last}"
    if not NAME.fullmatch(name):
        raise UsageError(
            f"--name is {name!r}; take 1 to 64 ASCII letters, digits, '_', '.' and '-', a letter or digit first"
        )
    if name in taken:
        raise UsageError(
            f"{name!r} is a workload of aisp-trace, whose expectations are not the pair's; choose another --name"
        )
    return name


def _words(option: str, command: str, started: Callable[[Sequence[str]], list[str]]) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as exc:
        raise UsageError(f"{option} cannot be split into words ({exc}): {command!r}; close the quotation") from exc
    if not words:
        raise UsageError(f"{option} is empty; give a command")
    shell = [word for word in words if word in SHELL_WORDS]
    if shell:
        raise UsageError(
            f"{option} holds {shell[0]!r}, which only a shell understands, and commands are run without one; "
            f"write `bash -c '...'`, or give a script"
        )
    words = tuple(started(words))
    require_program(words, f"{option}: ")
    return words


def require_program(words: Sequence[str], lead: str = "") -> None:
    """Raises `UsageError`, its sentence led by `lead`, if `words` start a program or a script of Python's that is not there."""
    program = words[0]
    scripts = [program, *(words[1:2] if Path(program).name.startswith("python") else ())]
    missing = [word for word in scripts if word.endswith(".py") and not Path(word).is_file()]
    if missing and (missing[0] != program or shutil.which(program) is None):
        raise UsageError(f"{lead}{missing[0]} does not exist; check its spelling, or the folder that you are in")
    if shutil.which(program) is None:
        hint = f"write `env {program} ...`" if "=" in program else "check its spelling and the PATH"
        raise UsageError(f"{lead}the program {program!r} was not found; {hint}")
