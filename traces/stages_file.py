"""The side file of the torch recorder: what its ranges mean, which torch.profiler does not export.

    {"schema": "aisp-trace/stages/1",
     "ranges": [{"name": "h2d", "kind": "h2d", "nbytes": 4096, "tid": 4711, "index": 0}, ...]}

`index` counts the ranges of one (tid, name) in the order of their start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .documents import STAGES, read
from .errors import InputError

STAGES_SCHEMA: Final = "aisp-trace/stages/1"


@dataclass(frozen=True, slots=True)
class StageFact:
    """The arguments of `stage()` for one range."""

    kind: str | None
    nbytes: int | None


@dataclass(frozen=True, slots=True)
class StageFacts:
    """All ranges of a side file: (tid, name) -> its ranges in the order of their start."""

    ranges: dict[tuple[int, str], list[StageFact]]

    def match(self, rows: Sequence[tuple[Any, Any]], odd: Counter[str]) -> list[StageFact | None]:
        """The fact of each of `rows` ((name, tid) of the trace's annotations in order of their start), or null.

        Thread ids of a trace may be native ids or pthread addresses. Where a name's ids differ from the side file's,
        its threads are paired by how many of its ranges each has; where that is ambiguous, what all ranges of the name
        have in common is kept and the rest is null. Names that the side file lacks get null; `odd` counts those
        ranges whose facts could not be matched, as ``stages_unmatched``.
        """
        own: dict[tuple[int, str], list[int]] = {}
        for position, (name, tid) in enumerate(rows):
            own.setdefault((tid, name), []).append(position)
        found: list[StageFact | None] = [None] * len(rows)
        for name in {n for _, n in self.ranges}:
            theirs = {t: facts for (t, n), facts in self.ranges.items() if n == name}
            ours = {t: positions for (t, n), positions in own.items() if n == name}
            pairs = _pairs({t: len(f) for t, f in theirs.items()}, {t: len(p) for t, p in ours.items()})
            everything = [f for facts in theirs.values() for f in facts]
            shared = _shared(everything)
            for tid, positions in ours.items():
                facts = theirs.get(pairs[tid], []) if tid in pairs else []
                exact = len(facts) == len(positions)
                for i, position in enumerate(positions):
                    found[position] = facts[i] if exact else shared
                if not exact and any(f != shared for f in everything):
                    odd["stages_unmatched"] += len(positions)
        return found


def read_stages(path: Path) -> StageFacts:
    """The side file `path`; raises `InputError` if it is missing or not one."""
    data = read(path, STAGES)
    if not isinstance(data, dict) or data.get("schema") != STAGES_SCHEMA or not isinstance(data.get("ranges"), list):
        raise InputError(f"{path} cannot be read as the stages of a trace: it is not {STAGES_SCHEMA!r}; record again")
    ordered: dict[tuple[int, str], list[tuple[int, StageFact]]] = {}
    for entry in data["ranges"]:
        try:
            key, index = (int(entry["tid"]), str(entry["name"])), int(entry["index"])
            kind, nbytes = entry.get("kind"), entry.get("nbytes")
        except (TypeError, KeyError, ValueError, AttributeError) as exc:
            raise InputError(f"{path}: a range lacks name, tid or index ({exc}); record again") from exc
        fact = StageFact(kind if isinstance(kind, str) else None, nbytes if isinstance(nbytes, int) else None)
        ordered.setdefault(key, []).append((index, fact))
    return StageFacts({k: [f for _, f in sorted(v, key=lambda p: p[0])] for k, v in ordered.items()})


def _pairs(theirs: dict[int, int], ours: dict[int, int]) -> dict[int, int]:
    """Trace thread -> side file thread, by equal ids, else by counts that only one thread on either side has."""
    pairs = {t: t for t in ours if t in theirs}
    left = {t: n for t, n in theirs.items() if t not in pairs}
    for tid, count in ours.items():
        if tid in pairs:
            continue
        candidates = [t for t, n in left.items() if n == count]
        rivals = [t for t, n in ours.items() if n == count and t not in theirs]
        if len(candidates) == 1 and len(rivals) == 1:
            pairs[tid] = candidates[0]
    return pairs


def _shared(facts: list[StageFact]) -> StageFact:
    return StageFact(_only([f.kind for f in facts]), _only([f.nbytes for f in facts]))


def _only(values: list[Any]) -> Any:
    return values[0] if values and all(v == values[0] for v in values) else None
