"""Mechanism claims that a workload wants written down on every machine: what is claimed, without a bound.

Times and shares of time have bounds of one machine only, so a claim about them cannot be written once for all. It can be
asked for once: `accept` gives each of these a bound from the runs it accepts, where the machine's file has none of that id.

    expectations/wanted_claims.json
        {"schema": "aisp-trace/wanted-claims/1",
         "claims": [{"id", "workload", "variant", "metric", "of", "stage", "against", "side", "why"}]}

`side` says which way the mechanism may fail: "min" (it must be at least so much), "max", or "both". Time claims need not be
asked for: every variant gets one against the baseline.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import TypeAdapter

from ...traces.documents import EXPECTATIONS, read_text
from ..metrics.registry import METRICS
from ..model import Bound, MechanismClaim, Source
from ..strict import Document, Fault, Identifier, Rule, Text, read
from .rules import metric_faults, twins

FILE: Final = "wanted_claims.json"
SCHEMA: Final = "aisp-trace/wanted-claims/1"

_OPEN: Final = {
    "min": Bound(float("-inf"), None),
    "max": Bound(None, float("inf")),
    "both": Bound(float("-inf"), float("inf")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish(Document):
    id: Identifier
    workload: Text
    variant: Text
    metric: Text
    of: Text | None = None
    stage: Text | None = None
    against: Text | None = None
    side: Literal["min", "max", "both"]
    why: Text


@dataclass(frozen=True, slots=True)
class _Document(Document):
    schema: Literal["aisp-trace/wanted-claims/1"]
    claims: tuple[Annotated[_Wish, Rule(metric_faults)], ...]


def _twins(document: _Document) -> Iterator[Fault]:
    return twins(wish.id for wish in document.claims)


_DOCUMENT: Final[TypeAdapter[_Document]] = TypeAdapter(Annotated[_Document, Rule(_twins)])


def load_wanted(folder: Path) -> tuple[MechanismClaim, ...]:
    """The claims asked for in `folder`, with bounds that everything meets; none where it has no such file.

    Raises an `InputError` that tells everything that is wrong with the file.
    """
    file = folder / FILE
    return parse_wanted(read_text(file, EXPECTATIONS), str(file)) if file.is_file() else ()


def parse_wanted(text: str, where: str) -> tuple[MechanismClaim, ...]:
    """As `load_wanted`, from the text of the file."""
    return tuple(_opened(wish) for wish in read(_DOCUMENT, text, SCHEMA, where).claims)


def _opened(wish: _Wish) -> MechanismClaim:
    said = {k: getattr(wish, k) for k in ("id", "workload", "variant", "metric", "of", "stage", "against", "why")}
    unit = METRICS[wish.metric].unit if wish.against is None else "ratio"
    return MechanismClaim(**said, bound=_OPEN[wish.side], unit=unit, source=Source("model", None, "not measured yet"))
