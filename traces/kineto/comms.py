"""What torch says of each collective kernel: its kind, its group, and how much it moves (since PyTorch 2.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import polars as pl

from ..model import MOST_BYTES, SCHEMAS, TEXT
from .columns import below, integer, nanoseconds, text
from .events import Event, arguments

_KINDS: Final = {
    "allreduce": "all_reduce",
    "allreducecoalesced": "all_reduce",
    "allgather": "all_gather",
    "allgatherbase": "all_gather",
    "allgatherintotensorcoalesced": "all_gather",
    "reducescatter": "reduce_scatter",
    "reducescatterbase": "reduce_scatter",
    "reducescattertensorcoalesced": "reduce_scatter",
    "alltoall": "all_to_all",
    "alltoallv": "all_to_all",
    "alltoallbase": "all_to_all",
}
"""torch's words for a collective (``ParamCommsUtils`` names them by the caller), letters only, and ours for it."""

_DTYPES: Final = {
    **dict.fromkeys(("byte", "char", "bool", "int8", "uint8", "float8e4m3fn", "float8e5m2"), 1),
    **dict.fromkeys(("half", "bfloat16", "short", "float16"), 2),
    **dict.fromkeys(("float", "int", "float32"), 4),
    **dict.fromkeys(("double", "long", "float64", "complexfloat"), 8),
}
"""Bytes of an element, by torch's names of types, letters and digits only."""

_LONGEST: Final = 4096
"""Characters of a list of ranks; torch shortens it at 30 ranks."""


Collective = tuple[int | None, int, str, str | None, int | None, str | None, int | None, int | None]
"""A row of table ``comms`` but for its device, in the order of the table."""


def collective_of(event: Event) -> Collective | None:
    """What a kernel says of its collective; null if it says nothing, or not when it ran."""
    args = arguments(event)
    (start,) = nanoseconds([event.ts]).to_list()
    name = args.collective
    if not isinstance(name, str) or start is None:
        return None
    letters = re.sub(r"[^a-z]", "", name.lower())
    elements = [n for said in (args.elements_in, args.elements_out) if (n := integer(said)) is not None]
    width = _DTYPES.get(re.sub(r"[^a-z0-9]", "", text(args.dtype).lower()))
    size = integer(args.group_size, 32)
    return (
        integer(args.stream),
        start,
        _KINDS.get(letters, name),
        args.group if isinstance(args.group, str) else None,
        size if size is not None and size > 0 else None,
        _ranks(args.ranks),
        below(max(elements) * width, MOST_BYTES) if elements and width else None,
        integer(args.group_sequence),
    )


def comm_rows(told: Iterable[tuple[int, Collective]]) -> pl.DataFrame | None:
    """The table ``comms``, but for its texts' encoding, of collectives with their device; null without any."""
    rows = [(device, *row) for device, row in told]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row") if rows else None


_SCHEMA: Final = {name: pl.String if kind is TEXT else kind for name, kind in SCHEMAS["comms"].items()}


def _ranks(value: Any) -> str | None:
    """``0, 1, 2``; null where not all ranks are there: torch writes ``[0, 1, 2, ..., 63]`` for long lists."""
    if isinstance(value, list):
        value = str(value)
    if not isinstance(value, str) or not re.fullmatch(r"\s*\[?[\d,\s]*\]?\s*", value[:_LONGEST]):
        return None
    return ", ".join(re.findall(r"\d+", value[:_LONGEST])) or None
