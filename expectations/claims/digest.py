"""The digest of a claim as `accept` wrote it, which shows that a hand has changed it since. Pure.

It covers what a verdict follows from: what is claimed, every bound, the runs, and the circumstances of the measurement. Left out
are id, reason and the source's words, which anybody may reword; and the order and spelling of keys and numbers, since values are
hashed and not text. Whoever edits a bound can remake its digest: version control shows that, this shows mistakes and short cuts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

from ..model import Claim, MechanismClaim, TimeClaim

_CLAIM: Final[TypeAdapter[Claim]] = TypeAdapter(Claim)

_WORDS: Final = ("id", "why")

One = TypeVar("One", TimeClaim, MechanismClaim)


def sealed(claim: One) -> One:
    """`claim`, which has a provenance, with its digest there."""
    assert claim.provenance is not None
    return replace(claim, provenance=replace(claim.provenance, digest=digest_of(claim)))


def is_changed(claim: Claim) -> bool:
    """Whether `claim` has a digest that is not its own."""
    known = claim.provenance.digest if claim.provenance else None
    return known is not None and known != digest_of(claim)


def digest_of(claim: Claim) -> str:
    """SHA-256 of everything but words, in hexadecimal."""
    made = _CLAIM.dump_python(claim, mode="json", by_alias=True)
    for word in _WORDS:
        del made[word]
    del made["source"]["text"]
    made["provenance"].pop("digest", None)
    text = json.dumps(_plain(made), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Without what says nothing, so that a key that a later version adds changes no digest; every number is a float."""
    if isinstance(value, dict):
        kept = {key: _plain(one) for key, one in value.items()}
        return {key: one for key, one in kept.items() if one not in (None, [], {})}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
