"""What ``aisp-trace check --json`` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from ...expectations.judging.judged import Judged, headline_of
from ...expectations.judging.untimed import Untimed, untimed
from ...expectations.judging.verdict import Verdict, counts, exit_code

SCHEMA: Final = "aisp-trace/check/1"


def document(judged: Judged) -> dict[str, Any]:
    """What ``aisp-trace check --json`` prints. Keys may be added, none changes its meaning."""
    evidence, expectations = judged.evidence, judged.expectations
    return {
        "schema": SCHEMA,
        "run": {
            "run_id": evidence.run_id,
            "workload": evidence.workload,
            "size": evidence.size,
            "hardware_key": evidence.hardware_key,
            "timed_by": evidence.timed,
        },
        "expectations": {
            "folder": str(expectations.folder),
            "chosen": expectations.chosen,
            "hardware_keys": [f.hardware_key for f in expectations.files],
        },
        "verdicts": [_verdict(v) for v in judged.verdicts],
        "headline": headline_of(judged),
        "counts": dict(counts(judged.verdicts)),
        "untimed": [_untimed(row) for row in untimed(evidence)],
        "predictions": [asdict(one) for one in judged.predictions],
        "notes": list(judged.notes),
        "exit_code": exit_code(judged.verdicts),
    }


def _untimed(row: Untimed) -> dict[str, Any]:
    return {
        "variant": row.variant,
        "prepare_ns": row.prepare_ns,
        "reset_ns": row.reset_ns,
        "outputs_ns": row.outputs_ns,
        "gain_ns": row.gain_ns,
        "charged_ratio": row.charged_ratio,
        "pays_after": row.pays_after,
    }


def _verdict(v: Verdict) -> dict[str, Any]:
    return {
        "claim": v.claim,
        "quantity": v.quantity,
        "variant": v.variant,
        "verdict": v.status,
        "reason": v.reason,
        "unit": v.unit,
        "value": v.value,
        "bound": None if v.bound is None else {"min": v.bound.minimum, "max": v.bound.maximum},
        "margin": v.margin,
        "n": v.n,
        "sample": v.sample or None,
        "part": v.part,
        "statistic": v.statistic or None,
        "other_interval": None if v.other_low is None else {"low": v.other_low, "high": v.other_high},
        "detects": v.detects,
        "rounds_for_5": v.rounds_for_5,
        "recorded": list(v.recorded),
        "interval": None if v.low is None else {"low": v.low, "high": v.high, "coverage": v.coverage},
        "expected_on": v.expected_on,
        "source": {"kind": v.source.kind, "run": v.source.run, "text": v.source.text},
    }
