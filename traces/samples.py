"""CPU samples of the host, asked for by thread and time: a recording holds millions of them, and an analysis needs a few.

A sample is one look at what a thread ran. Its function is the innermost frame of its call stack whose name the recorder knew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import polars as pl


class Stretch(NamedTuple):
    """One thread (`pid` of the model, native `tid`) for a while: ``[start_ns, end_ns)`` on the trace's clock."""

    pid: int
    tid: int
    start_ns: int
    end_ns: int


FUNCTIONS: Final[Mapping[str, Any]] = {
    "stretch": pl.Int64,  # position in what was asked for
    "function": pl.String,  # null: the samples of which no frame has a name
    "module": pl.String,  # last part of its path; null with `function`
    "samples": pl.Int64,
}
"""What a `Sampler` answers: one row a stretch and function. The rows of a stretch add up to all of its samples."""

Sampler = Callable[[Sequence[Stretch]], pl.DataFrame]
"""Table `FUNCTIONS` of stretches; those without samples have no rows."""


def no_samples(stretches: Sequence[Stretch]) -> pl.DataFrame:
    """The `Sampler` of a recording without samples."""
    return pl.DataFrame(schema=FUNCTIONS)
