"""What torch says of each collective kernel: its kind, its group, and how much it moves (since PyTorch 2.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import polars as pl

from ..model import MOST_BYTES, SCHEMAS, TEXT
from .columns import arguments, below, integer, nanoseconds, text

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


def comm_rows(kernels: Iterable[dict[str, Any]], device_of: Callable[[dict[str, Any]], int]) -> pl.DataFrame | None:
    """The table ``comms``, but for its texts' encoding, of the `kernels` that say something; null if none does."""
    telling = [e for e in kernels if isinstance(arguments(e).get("Collective name"), str)]
    starts = nanoseconds([e.get("ts") for e in telling])
    rows = [
        _row(event, device_of(event), start) for event, start in zip(telling, starts, strict=True) if start is not None
    ]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row") if rows else None


_SCHEMA: Final = {name: pl.String if kind is TEXT else kind for name, kind in SCHEMAS["comms"].items()}


def _row(event: dict[str, Any], device: int, start: int) -> tuple[Any, ...]:
    args = arguments(event)
    name = str(args["Collective name"])
    letters = re.sub(r"[^a-z]", "", name.lower())
    elements = [n for key in ("In msg nelems", "Out msg nelems") if (n := integer(args.get(key))) is not None]
    width = _DTYPES.get(re.sub(r"[^a-z0-9]", "", str(args.get("dtype", "")).lower()))
    size = integer(args.get("Group size"), 32)
    ranks = args.get("Process Group Ranks")
    group = args.get("Process Group Name")
    return (
        device,
        integer(args.get("stream")),
        start,
        text(_KINDS.get(letters, name)),
        text(group) if isinstance(group, str) else None,
        size if size is not None and size > 0 else None,
        _ranks(ranks),
        below(max(elements) * width, MOST_BYTES) if elements and width else None,
        integer(args.get("Seq")),
    )


def _ranks(value: Any) -> str | None:
    """``0, 1, 2``; null where not all ranks are there: torch writes ``[0, 1, 2, ..., 63]`` for long lists."""
    if isinstance(value, list):
        value = str(value)
    if not isinstance(value, str) or not re.fullmatch(r"\s*\[?[\d,\s]*\]?\s*", value[:_LONGEST]):
        return None
    return ", ".join(re.findall(r"\d+", value[:_LONGEST])) or None
