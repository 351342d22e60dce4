"""Words and options that other tools have, or that people expect, and what says the same here.

Each answer is the end of a sentence, or a whole one, and names a command line. As `mistakes.py`, it is asked only after a command
line was refused.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from .mistakes import PROGRAM, SCRUBBING, recording_in, recordings_in

JUDGING: Final = ("gate", "verify", "judge", "verdict", "assert", "test", "ci", "validate", "regress", "guard")
"""What people call `check`."""

COMPARING: Final = ("diff", "cmp", "vs", "versus", "delta")
"""What people call `compare`."""

PACKED: Final = (".tar.gz", ".tgz", ".tar")

FAILING: Final = (
    *(
        "--fail-on",
        "--fail",
        "--fail-under",
        "--fail-if",
        "--strict",
        "--exit-code",
        "--exit-zero",
        "--no-fail",
        "--gate",
    ),
    *("--threshold", "--max-regression", "--tolerance"),
)
"""How gates of other tools are told when to fail."""

OF_KERNELS: Final = ("--kernels", "--kernel", "--top", "--top-kernels", "--by-kernel", "--hotspots")

SIDES: Final = (
    "--base",
    "--baseline",
    "--opt",
    "--optimized",
    "--before",
    "--after",
    "--old",
    "--new",
    "--a",
    "--b",
    "--with",
)

JUDGES_RUNS: Final = ("check", "accept", "bundle")
ON_RECORDINGS: Final = (*JUDGES_RUNS, "analyze", "compare", "report", "export", "predict")


def for_word(word: str, words: Sequence[str]) -> str:
    """The end of the sentence on a `word` that is no command, the first of `words`; empty if no other tool has it either."""
    given = list(recordings_in(words[1:]))
    if word.lower() in COMPARING and given:
        return f"; to compare: `{PROGRAM} compare {shlex.join(given[:2])}`"
    if word.lower() not in JUDGING:
        return ""
    bundle = "" if word != "verify" else f"to verify a bundle: `{PROGRAM} bundle verify FILE`"
    if bundle and any(other.endswith(PACKED) for other in words[1:]):
        return f"; {bundle}"
    judged = f"to judge a run by what is written down: `{PROGRAM} check {recording_in(words[1:]) or 'RUN'}`"
    return f"; {judged}{f', {bundle}' if bundle else ''}"


def for_action(word: str, command: str) -> str:
    """The end of the sentence on a `word` that is no action of `command` but a recording, which other commands take."""
    if not recording_in([word]):
        return ""
    file = shlex.quote(word)
    if command == "kernels":
        return f"; this command writes kernels, and those of a recording are in `{PROGRAM} analyze {file}`"
    if command == "expectations":
        return f"; to judge a run by them: `{PROGRAM} check {file}`"
    return ""


def for_foreign_option(option: str, context: Any, typed: Sequence[str]) -> str:
    """The end of the sentence on an `option` that the command of `context` lacks and other tools have; empty if none has it."""
    name, file = context.info_name, recording_in(typed[1:])
    if option in FAILING and name in ("check", "compare", "analyze", "report", "capture"):
        return (
            f"; what fails is written down, in claims, and `{PROGRAM} check {file or 'RUN'}` exits with 0 where all are met, "
            "1 where one is missed, 3 where one is not decided"
        )
    if option.lstrip("-") in SCRUBBING or option in ("--anon", "--private"):
        if any("--scrub" in p.opts for p in context.command.params):
            return f"; did you mean --scrub? `{PROGRAM} {name} {file or 'FILE'} --scrub`"
        return f"; a copy without personal data: `{PROGRAM} export {file or 'FILE'} --scrub`"
    if option in OF_KERNELS and name in ("analyze", "report", "export", "ranks"):
        return (
            f"; `{PROGRAM} analyze {file or 'TRACE'}` names the kernels that take longest, and --json and `{PROGRAM} export "
            f"{file or 'TRACE'} --to csv` have all of them"
        )
    if option in SIDES and name == "compare":
        sides = [word for word in typed[1:] if not word.startswith("-")][:2]
        return f"; the two sides follow the command: `{PROGRAM} compare {shlex.join(sides) if len(sides) == 2 else 'BASE OPT'}`"
    return ""


def for_programs(typed: Sequence[str]) -> str:
    """The sentence on programs in `typed` where the command takes what is recorded of them; empty if that is not it."""
    programs = [
        word
        for before, word in pairwise(typed)
        if word.endswith(".py") and not before.startswith("-") and Path(word).is_file()  # no option's value
    ]
    if (
        not typed
        or typed[0] not in ON_RECORDINGS
        or not programs
        or (len(programs) < 2 and typed[0] not in JUDGES_RUNS)
    ):
        return ""
    are = "is a program" if len(programs) == 1 else "are programs"
    second = shlex.quote(programs[1]) if len(programs) > 1 else "CMD"
    pair = f"`{PROGRAM} capture --baseline {shlex.quote(programs[0])} --optimized {second}`"
    return f"{' and '.join(programs[:2])} {are}, and {typed[0]} takes a run of two; make one: {pair}, then `{PROGRAM} {typed[0]}`"


def for_ranks(typed: Sequence[str]) -> str:
    """The sentence on a folder of several traces in `typed` for a command that writes about one; empty if that is not it."""
    if not typed or typed[0] not in ("report", "export"):
        return ""
    for word in typed[1:]:
        traces = sorted(recordings_in(map(str, Path(word).iterdir()))) if Path(word).is_dir() else []
        if len(traces) < 2 or Path(word, "manifest.json").is_file():
            continue
        folder = shlex.quote(word)
        one = f"one of them: `{PROGRAM} {typed[0]} {shlex.quote(traces[0])}`"
        job = (
            f"`{PROGRAM} ranks {folder} -o job.html`" if typed[0] == "report" else f"`{PROGRAM} ranks {folder} --json`"
        )
        what = (
            "a page about a job of several ranks" if typed[0] == "report" else "the figures of a job of several ranks"
        )
        return f"{word} holds {len(traces)} recordings; {what}: {job}, {one}"
    return ""
