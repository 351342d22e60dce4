"""What people type instead of what they mean, and the command line that they mean.

Every answer is one sentence that ends with something to type. It is looked for only after a command line was refused, or answered
with less than it could be, so that it may look at files and at the PATH.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from ..traces.errors import AispTraceError
from ..traces.faults import nearest

PROGRAM: Final = "aisp-trace"

TRACE_ENDINGS: Final = (".sqlite", ".sqlite.xz", ".nsys-rep", ".json", ".json.gz", ".qdrep")

SCRUBBING: Final = ("scrub", "anonymise", "anonymize", "redact", "sanitise", "sanitize")
"""What people call the copy that they want to send on."""


LOOKING: Final = ("open", "show", "view", "summary", "summarize", "summarise", "info", "stats", "inspect", "read")
"""What people call a first look at a trace."""

PAGES: Final = ("--html", "--page")
FORMATS: Final = ("--format", "--fmt", "-f")
OUTPUTS: Final = ("-o", "--output", "--out")


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
    if word.lower() in LOOKING and (file := recording_in(words[1:])):
        return f"; to read it: `{PROGRAM} analyze {file}`, as a page: `{PROGRAM} report {file}`"
    if word.lower() in SCRUBBING:
        return f"; to copy a trace without personal data: `{PROGRAM} export FILE --scrub`"
    if hint := nearest(word, [*commands, "--version", "--help"]):
        return hint
    if program_in([word]):
        return f"; to record a program: {as_command(words)}"
    return f"; commands are {', '.join(commands)}"


def for_extra(words: str, command: Any, path: str, typed: Sequence[str] = ()) -> str:
    """The whole sentence on `words` that a command takes no more of; `typed` is the whole command line."""
    if meant := for_variants(typed) or one_each(typed):
        return meant
    for parameter in command.params:
        if parameter.param_type_name == "option" and words in (parameter.metavar or "").split("|"):
            return f"{words!r} is one word too many; did you mean {parameter.opts[0]} {words}?"
    most = sum(p.nargs for p in command.params if p.param_type_name == "argument")
    takes = f"takes {most or 'no'} argument{'' if most == 1 else 's'}"
    return f"`{path}` {takes}, and {words!r} is more than that; see `{path} --help`"


def recording_in(words: Sequence[str]) -> str:
    """The first of `words` that is a trace or a run, as a shell wants it; empty if there is none."""
    return shlex.quote(next(recordings_in(words), "")) if any(recordings_in(words)) else ""


def recordings_in(words: Iterable[str]) -> Iterator[str]:
    """Those of `words` that are traces or runs."""
    return (
        word
        for word in words
        if (word.endswith(TRACE_ENDINGS) and Path(word).is_file()) or Path(word, "manifest.json").is_file()
    )


LISTED: Final = 4
"""Recordings that a suggested loop lists."""

ONE_EACH: Final = {
    "report": "a page is of one recording, or of two compared",
    "export": "an export is of one recording",
}


def one_each(typed: Sequence[str]) -> str:
    """The sentence on several recordings for a command that writes about one of them; empty if that is not it."""
    given = list(recordings_in(typed[1:]))
    if not typed or typed[0] not in ONE_EACH or len(given) < 2:
        return ""
    options = [word for word in typed[1:] if word.startswith("--") and "=" not in word][:1]
    page = ' -o "$t".html' if typed[0] == "report" else ""
    each = shlex.join(given[:LISTED]) + (" ..." if len(given) > LISTED else "")
    line = f'for t in {each}; do {PROGRAM} {shlex.join([typed[0], *options])} "$t"{page}; done'
    jobs = [word for word in typed[1:] if Path(word).is_dir() and word not in given]
    job = f"; a folder of ranks has its own: `{PROGRAM} ranks {shlex.quote(jobs[0])} -o job.html`" if jobs else ""
    return f"{ONE_EACH[typed[0]]}, and {len(given)} were given; one after the other: `{line}`{job}"


def for_page(typed: Sequence[str], context: Any) -> str:
    """The end of the sentence on an option by which somebody wanted a page, or a file, of a command that has none."""
    file = shlex.join(list(recordings_in(typed[1:]))[:2]) or "TRACE"
    if any("--output" in p.opts for p in context.command.params):
        return f"; the page is written with -o: `{PROGRAM} {context.info_name} {file} -o page.html`"
    return f"; the page is written by report: `{PROGRAM} report {file} -o page.html`"


OF_VARIANTS: Final = {"analyze": 1, "predict": 1, "compare": 2, "report": 2}
"""The commands that take ``RUN:VARIANT``, and how many they need."""


def for_variants(typed: Sequence[str]) -> str:
    """The sentence on a run folder in `typed` with names of its variants behind it; empty if there is none."""
    if not typed or typed[0] not in OF_VARIANTS:
        return ""
    for place, run in enumerate(typed):
        if not Path(run, "manifest.json").is_file():
            continue
        known = _variants_of(run)
        behind = typed[place + 1 :]
        many = next((i for i, word in enumerate(behind) if word not in known or Path(word).exists()), len(behind))
        chosen = list(behind[:many])
        if not chosen:
            continue
        meant = list(chosen)
        if OF_VARIANTS[typed[0]] == 2 and len(meant) == 1:
            others = [name for name in known if name not in meant]
            meant = [*others[:1], *meant] if known.index(meant[0]) else [*meant, *others[-1:]]
        line = shlex.join([PROGRAM, typed[0], *(f"{run}:{name}" for name in meant)])
        are = "is a variant" if len(chosen) == 1 else "are variants"
        return f"{' and '.join(chosen)} {are} of {run}; write `{line}`"
    return ""


def traces_of_one_run(words: Sequence[str]) -> str:
    """The sentence on two traces that are variants of one run, which knows more of them; empty where they are not."""
    named = [(Path(word).parent.parent, Path(word).parent.name) for word in words if Path(word).is_file()]
    runs = {str(folder) for folder, _ in named}
    if len(named) != 2 or len(runs) != 1:
        return ""
    run = runs.pop()
    if not (Path(run) / "manifest.json").is_file() or not {name for _, name in named} <= set(_variants_of(run)):
        return ""
    line = shlex.join([PROGRAM, "compare", *(f"{run}:{name}" for _, name in named)])
    return f"both are recordings of {run}; `{line}` also compares its untraced rounds and the work that was done"


def _variants_of(run: str) -> list[str]:
    from ..traces.run import load_run

    try:
        return [variant.name for variant in load_run(Path(run)).manifest.variants]
    except AispTraceError:
        return []


def for_option(option: str, context: Any, typed: Sequence[str] = ()) -> str:
    """The end of the sentence on an `option` that the command of `context` lacks and others have; empty if none has it.
    `typed` is the whole command line."""
    program = context.find_root()
    if program is context:
        return ""
    value = next(iter(_values(option, typed)), None)
    if option in ("--variant", "--variants") and context.info_name in OF_VARIANTS:
        run = next((word for word in typed if Path(word, "manifest.json").is_file()), "RUN")
        names = [value or "VARIANT"]
        if OF_VARIANTS[context.info_name] == 2:
            names = [
                *([] if value is None else [next((n for n in _variants_of(run) if n != value), "VARIANT")]),
                *names,
            ]
        line = shlex.join([PROGRAM, context.info_name, *(f"{run}:{name}" for name in names)])
        return f"; a variant is named with its run: `{line}`"
    if option in ("--iteration", "--iter", "--step") and any("--window" in p.opts for p in context.command.params):
        number = value if value is not None and value.isdecimal() else "2"
        return f"; one iteration is --window 'iteration#{number}' (or its range, 'step#{number}'), counted from 0"
    outputs = next(_values(option, typed), "") if option in OUTPUTS else ""
    if option in PAGES or outputs.endswith((".html", ".htm")):
        return for_page(typed, context)
    if outputs.endswith(".json") and any("--json" in p.opts for p in context.command.params):
        return (
            f"; the document goes to standard output: {PROGRAM} {context.info_name} ... --json > {shlex.quote(outputs)}"
        )
    if option in FORMATS and any("--to" in p.opts for p in context.command.params):
        return f"; the format is named with --to: --to {value or 'perfetto|parquet|csv|json'}"
    if option == "--expectations" and context.info_name == "validate":
        return f"; the folder is its argument: {PROGRAM} expectations validate {value or 'DIR'}"
    if context.info_name == "capture" and (pair := _in_pair(option, context, typed)):
        return pair
    commands = {name: program.command.get_command(program, name) for name in program.command.list_commands(program)}
    owners = [name for name, command in commands.items() if any(option in p.opts for p in command.params)]
    if context.info_name == "capture" and program_in(typed[typed.index(option) + 1 :] if option in typed else []):
        return "; options of a program go behind its name: capture train.py --its-own-option"
    return f"; {', '.join(owners)} {'has' if len(owners) == 1 else 'have'} it" if owners else ""


def _in_pair(option: str, context: Any, typed: Sequence[str]) -> str:
    """The end of the sentence on an `option` behind a command of a pair, whose own it is; empty if there is none."""
    at = next((i for i, word in enumerate(typed) if word.partition("=")[0] == option), 0)
    sides = [i for i in range(at) if typed[i].partition("=")[0] in ("--baseline", "--optimized", "--rung")]
    if not sides:
        return ""
    side, equals, first = typed[sides[-1]].partition("=")
    known = {name for parameter in context.command.params for name in parameter.opts}
    own = takewhile(lambda word: word.partition("=")[0] not in known, typed[sides[-1] + 1 :])
    command = " ".join([*([first] if equals else []), *own])
    return f"; a command with options needs quotes: {side} {shlex.quote(command)}"


def _values(option: str, typed: Sequence[str]) -> Iterator[str]:
    """What `typed` gives `option`, behind it or behind an equals sign."""
    for word, after in zip(typed, [*typed[1:], "-"], strict=True):
        if word == option and not after.startswith("-"):
            yield after
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]


_EXTRA: Final = re.compile(r"[Gg]ot unexpected extra arguments?(?:\(s\))? \((.*)\)$")


def extra_words(message: str) -> str | None:
    """The words that were too many, by typer's message; null where it says something else."""
    found = _EXTRA.search(message)
    return None if found is None else found[1]
