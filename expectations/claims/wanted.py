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

from pathlib import Path
from typing import Final

from ...traces import documents
from ...traces.documents import EXPECTATIONS
from ...traces.errors import InputError
from ...traces.run import nearest
from ..model import Bound, MechanismClaim, Source
from .parse import check_metric
from .strict import Fields

FILE: Final = "wanted_claims.json"
SCHEMA: Final = "aisp-trace/wanted-claims/1"
SIDES: Final = ("min", "max", "both")

_KEYS: Final = ("id", "workload", "variant", "metric", "of", "stage", "against", "side", "why")
_OPEN: Final = {
    "min": Bound(float("-inf"), None),
    "max": Bound(None, float("inf")),
    "both": Bound(float("-inf"), float("inf")),
}


def load_wanted(folder: Path) -> tuple[MechanismClaim, ...]:
    """The claims asked for in `folder`, with bounds that everything meets; none where it has no such file.

    Raises `InputError` for a file that is not exactly right.
    """
    file = folder / FILE
    return parse_wanted(documents.read_text(file, EXPECTATIONS), str(file)) if file.is_file() else ()


def parse_wanted(text: str, where: str) -> tuple[MechanismClaim, ...]:
    """As `load_wanted`, from the text of the file."""
    top = Fields(documents.parse(text, EXPECTATIONS, where), where, ("schema", "claims"))
    if top.text("schema") != SCHEMA:
        raise InputError(f"{where} has schema {top.text('schema')!r}, not {SCHEMA!r}; write it for this version")
    claims = top.get("claims")
    if not isinstance(claims, list):
        top.refuse("claims", "a list", claims)
    found = tuple(_wanted(Fields(data, f"{where}: claims[{i}]", _KEYS)) for i, data in enumerate(claims))
    for i, claim in enumerate(found):
        if any(claim.id == other.id for other in found[:i]):
            raise InputError(f"{where}: two claims have the id {claim.id!r}; give each its own")
    return found


def _wanted(fields: Fields) -> MechanismClaim:
    side = fields.text("side")
    if side not in SIDES:
        raise InputError(f"{fields.where}: side is {side!r}{nearest(side, SIDES)}; it is one of {', '.join(SIDES)}")
    name, metric, of, stage, against = check_metric(fields)
    return MechanismClaim(
        id=fields.identifier("id"),
        workload=fields.text("workload"),
        variant=fields.text("variant"),
        metric=name,
        of=of,
        stage=stage,
        against=against,
        size=None,
        bound=_OPEN[side],
        unit=metric.unit if against is None else "ratio",
        why=fields.text("why"),
        source=Source("model", None, "not measured yet"),
        provenance=None,
    )
