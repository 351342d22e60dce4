"""What ``aisp-trace bundle --json`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...expectations.judging.judged import Judged
from ...expectations.judging.verdict import counts
from ...traces.bundle import Bundle
from ...traces.signing import fingerprint
from ..proof import Compared

SCHEMA: Final = "aisp-trace/bundled/1"


def document(
    what: str, bundle: Bundle, judged: Judged, notes: Sequence[str], code: int, compared: Compared | None = None
) -> dict[str, Any]:
    """The bundle and the counts of its verdicts; `what` was done with it, made or verified, and left exit code `code`.

    `compared`: what bounds from outside the bundle make of it.
    """
    by_others = compared and {
        "whose": compared.whose,
        "asks_less": compared.asks_less,
        "counts": dict(counts(compared.judged.verdicts)),
        "differences": [
            {"claim": d.claim, "part": d.part, "theirs": d.old, "bundle": d.new, "direction": d.direction}
            for d in compared.differences
        ],
    }
    key = bundle.index.signed_by
    signature = key and {"signer": fingerprint(key), "key": key, "checked": bundle.signature_checked}
    return {
        "schema": SCHEMA,
        "done": what,
        "run_id": bundle.index.run_id,
        "identity": bundle.identity,
        "signature": signature,
        "made_with": dict(bundle.index.made_with),
        "members": [{"path": m.path, "bytes": m.nbytes, "sha256": m.sha256} for m in bundle.index.members],
        "counts": dict(counts(judged.verdicts)),
        "compared": by_others,
        "notes": [*judged.notes, *notes],
        "exit_code": code,
    }
