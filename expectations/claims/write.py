"""Claims as the text of an expectation file, and the only function of this folder that writes one.

Claims that did not change keep their text: their numbers, order and keys are those of the file, whoever wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ...traces import documents
from ...traces.documents import EXPECTATIONS
from ...traces.errors import InputError
from ...traces.output import Kind, Output
from ..model import SCHEMA, Bound, Claim, TimeClaim
from .parse import parse

FILE: Final = Kind("expectation file")


def file_text(before: str | None, hardware_key: str, claims: Iterable[Claim]) -> str:
    """The file that holds exactly `claims`, in their order; `before` is its text now, null where it does not exist.

    The text is parsed once more before it is returned, so nothing is ever written that could not be read.
    """
    kept: Mapping[str, Any] = {}
    if before is not None:
        old = parse(before, "the present file")
        data = documents.parse(before, EXPECTATIONS, "the present file")["claims"]
        kept = {claim.id: (claim, entry) for claim, entry in zip(old.claims, data, strict=True)}
    entries = []
    for claim in claims:
        same = claim.id in kept and kept[claim.id][0] == claim
        entries.append(kept[claim.id][1] if same else claim_document(claim))
    document = {"schema": SCHEMA, "hardware_key": hardware_key, "claims": entries}
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    parse(text, "the file to write")
    return text


def claim_document(claim: Claim) -> dict[str, Any]:
    """`claim` as plain JSON; what is null is left out, except a time claim's size, which is always said."""
    shared = {"id": claim.id, "workload": claim.workload, "variant": claim.variant}
    out: dict[str, Any]
    if isinstance(claim, TimeClaim):
        out = {"type": "time", **shared, "baseline": claim.baseline, "size": claim.size}
        out |= {"ratio": _bound(claim.ratio), "max_ms": {k: _number(v) for k, v in claim.max_ms.items()}}
        if claim.min_items_per_s:
            out["min_items_per_s"] = {k: _number(v) for k, v in claim.min_items_per_s.items()}
    else:
        chosen = {k: getattr(claim, k) for k in ("size", "metric", "of", "stage", "against")}
        out = {"type": "mechanism", **shared, **{k: v for k, v in chosen.items() if v is not None}}
        out |= {"bound": _bound(claim.bound), "unit": claim.unit}
    out["why"] = claim.why
    out["source"] = {k: v for k, v in asdict(claim.source).items() if v not in (None, ())}
    if claim.provenance is not None:
        out["provenance"] = {k: v for k, v in asdict(claim.provenance).items() if v is not None}
    return out


def write_file(path: Path, text: str, before: str | None) -> None:
    """Replace `path` by `text` in one step: readers see the old file or the new one, also after a crash.

    Raises `InputError` if the file is not `before` any more (null: did not exist), since someone else changed it after
    the differences were shown, or if it cannot be written.
    """
    now = documents.read_text(path, EXPECTATIONS) if path.is_file() else None
    if now != before:
        raise InputError(f"{path} was changed meanwhile; nothing was written, look at the differences again")
    output(path).write_text(text)


def output(path: Path) -> Output:
    """`path` as the expectation file to change: read strictly and shown before, so replaced without --force."""
    return Output(path, FILE, force=True, option="--expectations")


def _bound(bound: Bound) -> dict[str, float | int]:
    ends = {"min": bound.minimum, "max": bound.maximum}
    return {k: _number(v) for k, v in ends.items() if v is not None}


def _number(value: float) -> float | int:
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value
