"""What had to be repaired in a trace file before it could be read, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

_MENDED: Final = {
    "mended_quotes": "unescaped quotes or backslashes",
    "mended_controls": "raw control characters",
    "mended_numbers": "inf or nan",
    "mended_text": "bytes that are not UTF-8",
}
"""How an event was damaged, by the words of `kineto.damaged`."""


def repairs(anomalies: Mapping[str, int]) -> Iterator[str]:
    """A sentence for each kind of repair that ``Meta.anomalies`` counts."""
    if mended := anomalies.get("events_mended"):
        which = "event was" if mended == 1 else "events were"
        how = [f"{words} ({count:,})" for key, words in _MENDED.items() if (count := anomalies.get(key))]
        yield f"{mended:,} {which} not valid JSON and had to be repaired{': ' if how else ''}{', '.join(how)}"
    if anomalies.get("members_mended"):
        yield "what stands beside the events was not valid JSON and had to be repaired"
    if anomalies.get("mended_commas"):
        yield "commas are missing or too many; every event was read all the same"
    if anomalies.get("lists_not_closed"):
        yield "the list of events is not closed: events may be missing at its end"
