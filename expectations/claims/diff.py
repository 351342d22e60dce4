"""How two sets of claims differ, bound by bound: what a reader of a change wants to know is whether it asks for less.

Looser means: some result that was refused before would be accepted now. The upper end of a speedup's band decides only
between `met` and `exceeded`, both of which are accepted, so moving it is neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

from ..model import Bound, Claim, MechanismClaim, TimeClaim

TIGHTER: Final = "tighter"
LOOSER: Final = "looser"
MOVED: Final = "moved"
NEW: Final = "new"
REMOVED: Final = "removed"
REWORDED: Final = "reworded"
OTHER: Final = "other claim"

_BOUNDS: Final = ("ratio", "max_ms", "min_items_per_s", "bound", "statistic")
_WORDS: Final = ("why", "source", "provenance")


@dataclass(frozen=True, slots=True)
class Difference:
    """One differing part of a claim. `part` names it ("ratio", "ms baseline"); `old` or `new` is null where it is absent.

    `direction` is one of the constants above. A removed bound is looser for who wrote it, and is called removed.
    """

    claim: str
    part: str
    old: str | None
    new: str | None
    direction: str

    @property
    def asks_less(self) -> bool:
        """Whether something that was refused before is accepted now."""
        return self.direction in (LOOSER, REMOVED, OTHER)


def differences(old: Sequence[Claim], new: Sequence[Claim]) -> tuple[Difference, ...]:
    """What changes from `old` to `new`, matched by id: in the order of `old`, then what only `new` has."""
    before, after = {c.id: c for c in old}, {c.id: c for c in new}
    found: list[Difference] = []
    for key, claim in before.items():
        other = after.get(key)
        if other is None:
            found += [Difference(key, p, str(b), None, REMOVED) for p, b in _parts(claim).items()]
        else:
            found += _of_one(claim, other)
    for key, claim in after.items():
        if key not in before:
            found += [Difference(key, p, None, str(b), NEW) for p, b in _parts(claim).items()]
    return tuple(found)


def direction(old: Bound, new: Bound, *, band: bool = False) -> str:
    """Tighter or looser; looser where it is both. `band`: of a speedup, whose upper end refuses nothing."""
    lower_end = _compare(old.minimum, new.minimum, -1)
    upper_end = 0 if band else _compare(old.maximum, new.maximum, 1)
    if min(lower_end, upper_end) < 0:
        return LOOSER
    return TIGHTER if max(lower_end, upper_end) > 0 else MOVED


def _of_one(old: Claim, new: Claim) -> Iterator[Difference]:
    if _statement(old) != _statement(new):
        yield Difference(old.id, "what is claimed", _statement(old), _statement(new), OTHER)
        return
    before, after = _parts(old), _parts(new)
    one, two = (c.provenance.timed_by if c.provenance else None for c in (old, new))
    if one is not None and two is not None and one != two:
        # Numbers of different quantities: none asks for more or less than the other.
        yield Difference(old.id, "timed by", one, two, OTHER)
        for part in dict.fromkeys((*before, *after)):
            was, is_now = (str(found[part]) if part in found else None for found in (before, after))
            yield Difference(old.id, part, was, is_now, OTHER)
        return
    if new.source.kind == "measured":
        yield from _unguarded(old, new)
    if isinstance(old, TimeClaim) and isinstance(new, TimeClaim) and old.by != new.by:
        yield Difference(old.id, "statistic", old.by, new.by, MOVED)  # met needs both, whichever is named
    for part in dict.fromkeys((*before, *after)):
        bound, now = before.get(part), after.get(part)
        if bound is None:
            yield Difference(old.id, part, None, str(now), NEW)
        elif now is None:
            yield Difference(old.id, part, str(bound), None, REMOVED)
        elif bound != now:
            yield Difference(old.id, part, str(bound), str(now), direction(bound, now, band=part == "speedup"))
    if before == after and any(getattr(old, w) != getattr(new, w) for w in _WORDS):
        yield Difference(old.id, "source or reason", old.source.kind, new.source.kind, REWORDED)


def _unguarded(old: Claim, new: Claim) -> Iterator[Difference]:
    """What a measured bound remembered, by which `check` refuses other runs and edited bounds, and forgets."""
    if old.provenance is None or new.provenance is None:
        return
    for key in ("timed_by", "digest"):
        was = getattr(old.provenance, key)
        if was is not None and getattr(new.provenance, key) is None:
            yield Difference(old.id, f"provenance.{key}", was[:12], None, REMOVED)


def _parts(claim: Claim) -> dict[str, Bound]:
    """Everything the claim bounds, by its name in a table."""
    if isinstance(claim, MechanismClaim):
        return {claim.metric: claim.bound}
    return {
        "speedup": claim.ratio,
        **{f"ms {name}": Bound(None, limit) for name, limit in claim.max_ms.items()},
        **{f"items/s {name}": Bound(floor, None) for name, floor in claim.min_items_per_s.items()},
    }


def _statement(claim: Claim) -> str:
    """Everything that says what is claimed, leaving out how much and why."""
    said = [
        f"{field.name} {value}"
        for field in fields(claim)
        if field.name not in ("id", "type", *_BOUNDS, *_WORDS) and (value := getattr(claim, field.name)) is not None
    ]
    return f"{claim.type}: {', '.join(said)}"


def _compare(old: float | None, new: float | None, outward: int) -> int:
    """1 where the new end asks for more, -1 for less, 0 for the same; `outward` is the side an end lies on."""
    a = outward * float("inf") if old is None else old
    b = outward * float("inf") if new is None else new
    return (a > b) - (a < b) if outward > 0 else (b > a) - (b < a)
