"""Claims as the text of an expectation file, and the only function of this folder that writes one.

Claims that did not change keep their text: their numbers, order and keys are those of the file, whoever wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from ...traces import documents
from ...traces.documents import EXPECTATIONS
from ...traces.errors import InputError
from ...traces.output import Kind, Output
from ..model import SCHEMA, Claim
from .parse import parse

_CLAIM: Final[TypeAdapter[Claim]] = TypeAdapter(Claim)

FILE: Final = Kind("expectation file")


def file_text(before: str | None, hardware_key: str, claims: Iterable[Claim]) -> str:
    """The file that holds exactly `claims`, in their order; `before` is its text now, null where it does not exist.

    The text is parsed once more before it is returned, so nothing is ever written that could not be read.
    """
    kept: Mapping[str, Any] = {}
    if before is not None:
        old = parse(before, "the present file")
        document = documents.parse(before, EXPECTATIONS, "the present file")
        if document["schema"] == SCHEMA:  # what an earlier one leaves unsaid is written out
            kept = {claim.id: (claim, entry) for claim, entry in zip(old.claims, document["claims"], strict=True)}
    entries = []
    for claim in claims:
        same = claim.id in kept and kept[claim.id][0] == claim
        entries.append(kept[claim.id][1] if same else claim_document(claim))
    made = {"schema": SCHEMA, "hardware_key": hardware_key, "claims": entries}
    text = json.dumps(made, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    parse(text, "the file to write")
    return text


def claim_document(claim: Claim) -> dict[str, Any]:
    """`claim` as plain JSON; what is null is left out, except a time claim's size, which is always said."""
    return _without_nulls(_CLAIM.dump_python(claim, by_alias=True))


def _without_nulls(made: dict[str, Any]) -> dict[str, Any]:
    plain = {key: _without_nulls(value) if isinstance(value, dict) else value for key, value in made.items()}
    always = "size" if made.get("type") == "time" else None
    return {key: value for key, value in plain.items() if value not in (None, (), {}) or key == always}


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
