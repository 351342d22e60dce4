"""What people type instead of what they mean, and the command line that they mean.

Every answer is one sentence that ends with something to type. It is looked for only after a command line was refused, so that it
may look at files and at the PATH.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from ..traces.faults import nearest

PROGRAM: Final = "aisp-trace"

TRACE_ENDINGS: Final = (".sqlite", ".sqlite.xz", ".nsys-rep", ".json", ".json.gz", ".qdrep")


def as_command(words: Sequence[str]) -> str:
    """The command line that records the program which `words` are."""
    python = ["python"] if words[0].endswith(".py") and not shutil.which(words[0]) else []
    return f"`{PROGRAM} capture -- {shlex.join([*python, *words])}`"


def program_in(words: Sequence[str], known: Iterable[str] = ()) -> list[str]:
    """The part of `words` that is a program with its arguments: from the first word on that can be run. None where one is
    `known`, and another meant."""
    if set(words) & set(known):
        return []
    for place, word in enumerate(words):
        if not word.startswith("-") and (word.endswith(".py") or shutil.which(word)):
            return list(words[place:])
    return []


def for_no_command(word: str, words: Sequence[str], commands: Sequence[str]) -> str:
    """The end of the sentence on a `word` that is not a command, the first of `words` after the program's options."""
    if word.endswith(TRACE_ENDINGS) or Path(word, "manifest.json").is_file():
        return f"; to analyse it: `{PROGRAM} analyze {shlex.quote(word)}`"
    if hint := nearest(word, [*commands, "--version", "--help"]):
        return hint
    if program_in([word]):
        return f"; to record a program: {as_command(words)}"
    return f"; commands are {', '.join(commands)}"


def for_extra(words: str, command: Any, path: str) -> str:
    """The whole sentence on `words` that a command takes no more of."""
    for parameter in command.params:
        if parameter.param_type_name == "option" and words in (parameter.metavar or "").split("|"):
            return f"{words!r} is one word too many; did you mean {parameter.opts[0]} {words}?"
    most = sum(p.nargs for p in command.params if p.param_type_name == "argument")
    takes = f"takes {most or 'no'} argument{'' if most == 1 else 's'}"
    return f"`{path}` {takes}, and {words!r} is more than that; see `{path} --help`"


def for_option(option: str, context: Any) -> str:
    """The end of the sentence on an `option` that the command of `context` lacks and others have; empty if none has it."""
    program = context.find_root()
    if program is context:
        return ""
    commands = {name: program.command.get_command(program, name) for name in program.command.list_commands(program)}
    owners = [name for name, command in commands.items() if any(option in p.opts for p in command.params)]
    return f"; {', '.join(owners)} {'has' if len(owners) == 1 else 'have'} it" if owners else ""


_EXTRA: Final = re.compile(r"[Gg]ot unexpected extra arguments?(?:\(s\))? \((.*)\)$")


def extra_words(message: str) -> str | None:
    """The words that were too many, by typer's message; null where it says something else."""
    found = _EXTRA.search(message)
    return None if found is None else found[1]
