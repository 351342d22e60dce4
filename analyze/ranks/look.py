"""How the ranks of a trace are looked at. Imports nothing heavy: the command line makes one before it reads a trace."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """The options of ``analyze`` that decide a partial, by their names there."""

    domain: str | None = None
    iterations: str | None = None
    skip: int | None = None
    stages: str | None = None
    depth: int | None = None
