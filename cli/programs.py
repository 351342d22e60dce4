"""Telling a program of the user's own from a workload, where no ``--`` stands between.

    capture train.py --steps 4      ->  capture -- python train.py --steps 4
    capture python train.py         ->  capture -- python train.py
    capture my_workload.py          the workload in that file: it speaks the workloads' protocol

Options of `capture` stand before the program; every word behind it is the program's.
"""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ..workloads import catalog

PROTOCOL: Final = ("aisp_trace.workloads", "aisp_trace.traces.run")
"""What a file imports that is a workload: the harness, or the form of its answer for one that does without the harness."""

ENVIRONMENTS: Final = ("VIRTUAL_ENV", "CONDA_PREFIX")
"""Set by an activated environment."""


def split(words: Sequence[str], options: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """(words of `capture`, the program's command line) of `words` without a ``--``; no program: an empty command line.

    `options` says of each option of `capture` whether a value follows it.
    """
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        at += 1 + options.get(words[at], False)
    program = command_of(words[at], alone=at + 1 == len(words)) if at < len(words) else []
    return (list(words[:at]), [*program, *words[at + 1 :]]) if program else (list(words), [])


def command_of(word: str, *, alone: bool) -> list[str]:
    """How the program `word` is started; empty if it is a workload, or nothing that can be started.

    A script that does not exist is still one where words follow it, which are then not taken for options of `capture`.
    """
    if word in catalog.names():
        return []
    if word.endswith(".py"):
        file = Path(word)
        program = not is_workload(file) if file.is_file() else not alone
        return [python(), word] if program else []
    return [word] if shutil.which(word) is not None else []


def two_programs(words: Sequence[str]) -> str:
    """A note on a command line, as `split` finds it, that starts one program with another for its only argument, where two to
    compare were probably meant; empty where it does not."""
    named = list(words[1:] if Path(words[0]).name.startswith("python") else words)
    if len(named) != 2 or not all(map(_is_program, named)):
        return ""
    program, argument = named
    if Path(program).suffix != Path(argument).suffix or program == argument:
        return ""
    pair = shlex.join(["--baseline", program, "--optimized", argument])
    return f"{argument} is an argument of {program} here; to compare the two: aisp-trace capture {pair}"


def _is_program(word: str) -> bool:
    file = Path(word)
    return file.is_file() and (file.suffix == ".py" or os.access(file, os.X_OK))


def runnable(words: Sequence[str]) -> list[str]:
    """`words` as a command line that can be started: a script that is not a program by itself gets its Python."""
    needs = bool(words) and words[0].endswith(".py") and Path(words[0]).is_file() and shutil.which(words[0]) is None
    return [python(), *words] if needs else list(words)


def is_workload(file: Path) -> bool:
    """Whether `file` speaks the workloads' protocol: it, or what it imports from beside it, imports the protocol or reads the
    option --variant that a workload is started with. One that Python cannot parse does not."""
    tree = _tree(file)
    names = _imports(tree)
    beside = {file.with_name(f"{name.partition('.')[0]}.py") for name in names}
    found = names.union(*(_imports(_tree(one)) for one in beside if one.is_file()))
    protocol = any(name == one or name.startswith(f"{one}.") for name in found for one in PROTOCOL)
    return protocol or "--variant" in _words(tree)


def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


def _imports(tree: ast.Module) -> set[str]:
    """Absolute names of the modules and what is imported from them."""
    nodes = list(ast.walk(tree))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _words(tree: ast.Module) -> set[str]:
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def python(environ: Mapping[str, str] = os.environ) -> str:
    """The Python that a script runs under: that of the activated environment, else the one that runs this."""
    for variable in ENVIRONMENTS:
        found = shutil.which("python", path=str(Path(environ[variable]) / "bin")) if environ.get(variable) else None
        if found is not None:
            return found
    return sys.executable
