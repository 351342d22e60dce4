"""Links into the timeline: ``#timeline&trace=optimized&from=0&to=5000&stage=iteration/h2d``, every part optional.

Times are whole nanoseconds from the trace's first device operation. Long names are clipped as the page shows them, so that a link
stays a link; whoever follows it clips alike.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

from .markup import clip
from .sides import Side, clipped

TIMELINE: Final = "timeline"
"""The anchor that all of them name."""


def timeline_link(
    side: Side,
    *,
    start_ns: int | None = None,
    end_ns: int | None = None,
    stage: str | None = None,
    kernel: str | None = None,
) -> str:
    """The address of a view of `side`'s timeline; instants are those of the recording, and left out where it has no operation."""
    first = side.analysis.first_op_ns
    parts: dict[str, str] = {"trace": clip(side.name)}
    if first is not None and start_ns is not None and end_ns is not None:
        parts |= {"from": str(start_ns - first), "to": str(end_ns - first)}
    if stage is not None:
        parts["stage"] = clipped(stage)
    if kernel is not None:
        parts["kernel"] = clip(kernel)
    return f"#{TIMELINE}&{urlencode(parts, quote_via=quote, safe='/', errors='replace')}"
