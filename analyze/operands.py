"""What a word of ``aisp-trace compare`` names: a run, one variant of a run, or a trace.

aisp-runs/pair-1               a run
aisp-runs/pair-1:optimized     one of its variants; its folder, aisp-runs/pair-1/optimized, is the same
train.sqlite                   a trace
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..traces.errors import InputError, UsageError
from ..traces.run import MANIFEST, RUNS_DIR, load_run, newest_run
from .sources import Source, find_source


@dataclass(frozen=True, slots=True)
class Operand:
    """One word of the command line: a run, one variant of it, or a trace."""

    source: Source
    variant: str | None
    text: str

    @property
    def several(self) -> bool:
        """Whether it stands for all variants of a run."""
        return self.source.run is not None and self.variant is None


def operand(text: str) -> Operand:
    """What one word names: a run, ``RUN:variant``, ``RUN/variant`` (the variant's folder), or a trace file.

    Raises `InputError` if there is nothing of the kind.
    """
    path = Path(text)
    if path.is_dir() and not (path / MANIFEST).is_file() and (path.resolve().parent / MANIFEST).is_file():
        run = load_run(path.resolve().parent)
        return Operand(Source(run, run.path), run.variant(path.resolve().name).name, text)
    head, colon, variant = text.rpartition(":")
    if colon and not path.exists() and Path(head).exists():
        source = find_source(Path(head))
        if source.run is None:
            raise InputError(f"{head} is a trace and has no variants; give its file alone, or --window RANGE")
        return Operand(source, source.run.variant(variant).name, text)
    return Operand(find_source(path), None, text)


def recorded(source: Source) -> list[str]:
    """The variants of a run that were recorded, in order."""
    return [] if source.run is None else [v.name for v in source.run.manifest.variants if v.recording is not None]


def newest() -> Operand:
    run = newest_run(Path(RUNS_DIR))
    return Operand(Source(run, run.path), None, str(run.path))


def first_recorded(given: Operand) -> Operand:
    """`given` as one recording; of a run with several variants, the first that was recorded, from which others are made."""
    names = recorded(given.source) if given.several else []
    if len(names) < 2:
        return single(given)
    return replace(given, variant=names[0], text=f"{given.text}:{names[0]}")


def single(given: Operand) -> Operand:
    """`given` as one recording; a run that recorded only one variant stands for it."""
    if not given.several:
        return given
    names = recorded(given.source)
    if len(names) != 1:
        known = ", ".join(names) or "none"
        raise UsageError(
            f"run {given.text} has several variants ({known}); name one, e.g. {given.text}:{(names or ['baseline'])[0]}"
        )
    return replace(given, variant=names[0])
