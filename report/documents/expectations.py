"""Expectations for programs: claims as they stand in their files, what is wrong with files, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...expectations.claims.asked import Differing, Validation
from ...expectations.claims.write import claim_document
from ...expectations.model import Expectations

SHOW_SCHEMA: Final = "aisp-trace/expectations-list/1"
VALIDATION_SCHEMA: Final = "aisp-trace/expectations-validation/1"
DIFF_SCHEMA: Final = "aisp-trace/expectations-diff/1"


def claims_document(found: Expectations) -> dict[str, Any]:
    """The claims, as they stand in their files."""
    files = [{"hardware_key": f.hardware_key, "claims": [claim_document(c) for c in f.claims]} for f in found.files]
    return {"schema": SHOW_SCHEMA, "folder": str(found.folder), "chosen": found.chosen, "files": files}


def validation_document(found: Sequence[Validation]) -> dict[str, Any]:
    """Each file with the number of its claims, or what is wrong with it."""
    files = [{"path": str(v.path), "claims": v.claims, "error": "\n".join(v.faults) or None} for v in found]
    return {"schema": VALIDATION_SCHEMA, "files": files}


def difference_document(found: Differing) -> dict[str, Any]:
    """Every bound that differs, on which machine, and which way."""
    rows = [
        {
            "hardware_key": key,
            "claim": d.claim,
            "part": d.part,
            "old": d.old,
            "new": d.new,
            "change": d.direction,
            "asks_less": d.asks_less,
        }
        for key, changes in found
        for d in changes
    ]
    return {"schema": DIFF_SCHEMA, "differences": rows}
