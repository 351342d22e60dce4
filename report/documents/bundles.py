"""What ``aisp-trace bundle --json`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...expectations.judging.judged import Judged
from ...expectations.judging.verdict import counts
from ...traces.bundle import Bundle

SCHEMA: Final = "aisp-trace/bundled/1"


def document(what: str, bundle: Bundle, judged: Judged, notes: Sequence[str], code: int) -> dict[str, Any]:
    """The bundle and the counts of its verdicts; `what` was done with it, made or verified, and left exit code `code`."""
    return {
        "schema": SCHEMA,
        "done": what,
        "run_id": bundle.index.run_id,
        "identity": bundle.identity,
        "made_with": dict(bundle.index.made_with),
        "members": [{"path": m.path, "bytes": m.nbytes, "sha256": m.sha256} for m in bundle.index.members],
        "counts": dict(counts(judged.verdicts)),
        "notes": [*judged.notes, *notes],
        "exit_code": code,
    }
