"""Expectation files as values, and their JSON Schema: both from the model (``model.py``) and the rules beside it (``rules.py``).

    expectations/expectations.schema.json      draft 2020-12, for editors and other programs

Whoever writes a bound should not have it ignored for a typing error: an unknown key is an error that names its nearest
valid one, a key may appear once, numbers are finite, and every claim is held against the registry of metrics. Keys
whose value may be null may be left out. The reader is the authority: ``rules.py`` says what a schema cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from ..model import EARLIER, SCHEMA, ExpectationFile, MechanismClaim, TimeClaim
from ..strict import Document, Identifier, json_schema, read
from .rules import FILE, MECHANISM, TIME

SCHEMA_FILE: Final = "expectations.schema.json"

_Claim = Annotated[Annotated[TimeClaim, TIME] | Annotated[MechanismClaim, MECHANISM], Field(discriminator="type")]


@dataclass(frozen=True, slots=True)
class _Document(Document):
    """Claims written down before the run that they judge; see docs/verdicts.md."""

    schema: Literal["aisp-trace/expectations/1", "aisp-trace/expectations/2"]
    hardware_key: Identifier
    claims: tuple[_Claim, ...]


_DOCUMENT: Final[TypeAdapter[_Document]] = TypeAdapter(Annotated[_Document, FILE])


def parse(text: str, where: str) -> ExpectationFile:
    """The claims in `text`; `where` names the file in errors. Raises an `InputError` that tells everything that is wrong.

    How a claim's parts fit together is checked once each part is right; so it is with a file's claims. Times in a
    file of the earlier schema have the median for their statistic, which is what they were measured by.
    """
    found = read(_DOCUMENT, text, SCHEMA, where, EARLIER)
    claims = found.claims
    if found.schema == EARLIER:
        claims = tuple(replace(c, statistic="median") if isinstance(c, TimeClaim) else c for c in claims)
    return ExpectationFile(found.hardware_key, claims)


def schema() -> dict[str, Any]:
    """The JSON Schema of an expectation file, as plain JSON."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "aisp-trace expectations"}
    return head | {k: v for k, v in json_schema(_DOCUMENT).items() if k not in head}
