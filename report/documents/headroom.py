"""Predictions as JSON: what ``aisp-trace predict --json`` prints. ``docs/json.md`` describes every key."""

from __future__ import annotations

from typing import Any, Final

from ...analyze.headroom.estimate import Prediction
from ...analyze.headroom.predicted import Predicted

SCHEMA: Final = "aisp-trace/headroom/1"


def document(found: Predicted) -> dict[str, Any]:
    """``{schema, of, base_ns, untraced, replay, predictions, together}``."""
    base = found.base
    return {
        "schema": SCHEMA,
        "of": found.text,
        "base_ns": base.ns,
        "untraced": None if base.untraced_ns is None else {"ns": base.untraced_ns, "host_factor": base.factor},
        "replay": {"exact": True, "structure_error": base.structure_error, "iterations": len(base.situation.host)},
        "predictions": [_prediction(one) for one in found.each],
        "together": None if found.together is None else _prediction(found.together),
    }


def _prediction(one: Prediction) -> dict[str, Any]:
    return {
        "change": " ".join(one.changes),
        "estimate_ns": one.estimate_ns,
        "at_most_ns": one.at_most_ns,
        "grade": one.grade,
        "assumes": list(one.assumes),
        "why": one.why,
    }
