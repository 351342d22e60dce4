"""One case: files in a folder, and the command lines that look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

INPUT: Final = "in"
"""The folder of a case in which its input lies, and in which its command lines run."""

OUTPUT: Final = "out"
"""The folder in which they write, as ``../out/NAME``."""

PLACES: Final = (INPUT, OUTPUT, "home", "tmp", "kept")
"""Every folder of a case: beside those two, HOME, TMPDIR, and the homes of cache, configuration and data."""


@dataclass(frozen=True, slots=True)
class Look:
    """One command line. `like` is an earlier look whose answer this one must repeat: letter by letter, or in its figures if it
    looks at another file.

    `reader` chooses how tables are read: "" as usual, "adbc", or "pages" (compiled). `damage_kept` damages what earlier looks
    kept (caches, analyses) with this seed before it.
    """

    words: tuple[str, ...]
    like: int | None = None
    reader: str = ""
    damage_kept: int | None = None


@dataclass(slots=True)
class Case:
    """What is tried. `truth` is a trace of which plain SQL or JSON can say something; `secrets` must be in no scrubbed output."""

    kind: str
    looks: list[Look] = field(default_factory=list)
    truth: str | None = None
    secrets: tuple[str, ...] = ()

    def look(self, *words: str, like: int | None = None, reader: str = "", damage_kept: int | None = None) -> int:
        """Add a command line; returns its number."""
        self.looks.append(Look(words, like, reader, damage_kept))
        return len(self.looks) - 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command line answered."""

    look: Look
    code: int | None
    """Null: something escaped the command line's own handler; `said` has it."""
    printed: str
    said: str


@dataclass(slots=True)
class Outcome:
    """What came out of one case, as a child tells it."""

    kind: str
    codes: list[int | None]
    finds: list[str]
    checked: dict[str, int]
    seconds: float = 0.0
    peak_mb: int = 0


def made(box: Path) -> Path:
    """The folders of a case in `box`; returns the one of its input."""
    for name in PLACES:
        (box / name).mkdir(parents=True, exist_ok=True)
    return box / INPUT


def words_of(looks: Sequence[Look]) -> list[str]:
    """The command lines, to be read."""
    return [" ".join(("aisp-trace", *look.words)) for look in looks]
