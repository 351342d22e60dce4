"""Where claims are written and how: the one way for `accept`, `expectations new` and whatever writes claims later.

    place_to_write      the file named, or the machine's file in the folder named, or in ``./expectations``, which is made;
                        never in an installed package, where the next version would overwrite it unseen
    Place.write         all claims of the file, after the differences were shown; refused if it has changed since it was read
    Place.add           claims beside those of the file; refused if one of that id is there, or in the file for any machine

The file is replaced in one step. Claims that did not change keep their text: their numbers, order and keys are those of the
file, whoever wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from ...traces import documents
from ...traces.documents import EXPECTATIONS
from ...traces.errors import InputError, UsageError
from ...traces.output import Kind, Output, check_container, make_container, real
from ..model import ANY, SCHEMA, Claim, ExpectationFile
from .load import PACKAGE_DIR, PROJECT_DIR, file_name, load_file, load_folder
from .parse import parse

_CLAIM: Final[TypeAdapter[Claim]] = TypeAdapter(Claim)

FILE: Final = Kind("expectation file")

OPTION: Final = "--expectations"


@dataclass(frozen=True, slots=True)
class Place:
    """One expectation file to write: its text `before` (null: it does not exist) and what that says, `file`.

    `chosen` says why it is there: "option" or "project". `others` are the other files of its folder.
    """

    path: Path
    chosen: str
    before: str | None
    file: ExpectationFile
    others: tuple[ExpectationFile, ...] = ()

    @property
    def is_new_folder(self) -> bool:
        """Whether its folder would be made."""
        return not self.path.parent.is_dir()

    def with_added(self, claims: Sequence[Claim]) -> tuple[Claim, ...]:
        """The claims of the file and `claims`; raises `UsageError` if one of their ids is taken."""
        files = (self.file, *(f for f in self.others if ANY in (f.hardware_key, self.file.hardware_key)))
        taken = {claim.id: f.hardware_key for f in files for claim in f.claims}
        for claim in claims:
            if claim.id in taken:
                where = self.path.with_name(file_name(taken[claim.id]))
                raise UsageError(f"{where} has a claim {claim.id!r} already, which is not overwritten; edit it there")
        return (*self.file.claims, *claims)

    def add(self, claims: Sequence[Claim]) -> None:
        """Write `claims` behind those of the file. Raises as `with_added` and `write` do."""
        self.write(self.with_added(claims))

    def write(self, claims: Iterable[Claim]) -> None:
        """Make `claims` all that the file holds; raises `InputError` if it has changed since, or cannot be written."""
        text = file_text(self.before, self.file.hardware_key, claims)
        make_container(self.path.parent, OPTION)
        write_file(self.path, text, self.before)


def place_to_write(asked: Path | None, hardware_key: str, project: Path) -> Place:
    """The file for claims of `hardware_key`: in `asked` (a folder, or one file), else in ``project/expectations``.

    Raises `InputError` where that cannot be written or read, or lies in an installed package. Writes nothing.
    """
    if asked is not None and asked.is_file():
        path, chosen, own = asked, "option", load_file(asked).hardware_key
    else:
        folder, chosen = _folder_to_write(asked, project)
        path, own = folder / file_name(hardware_key), hardware_key
    _refuse_package(path)
    if path.parent.is_dir():
        output(path).check()
    else:
        check_container(path.parent, OPTION)
    before = documents.read_text(path, EXPECTATIONS) if path.is_file() else None
    file = load_file(path) if before is not None else ExpectationFile(own, ())
    found = load_folder(path.parent, chosen)
    return Place(path, chosen, before, file, tuple(f for f in found.files if f.hardware_key != own))


def _folder_to_write(asked: Path | None, project: Path) -> tuple[Path, str]:
    if asked is None:
        return project / PROJECT_DIR, "project"
    if not asked.is_dir():
        raise InputError(f"--expectations {asked} is not a folder; make it, or name the one that holds your claims")
    return asked, "option"


def _refuse_package(path: Path) -> None:
    """Raise `InputError` for a file of an installed package; in a checkout, the package's claims are the project's own."""
    package = PACKAGE_DIR.parent
    if (package / "pyproject.toml").is_file() or package not in real(path).parents:
        return
    raise InputError(
        f"{path} lies in the installed aisp-trace, whose files the next version replaces; go to your project"
    )


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
    """`claim` as plain JSON; what is null or empty is left out, except a time claim's size and limits, which are always said."""
    return _without_nulls(_CLAIM.dump_python(claim, by_alias=True))


def _without_nulls(made: dict[str, Any]) -> dict[str, Any]:
    plain = {key: _without_nulls(value) if isinstance(value, dict) else value for key, value in made.items()}
    always = ("size", "max_ms") if made.get("type") == "time" else ()
    return {key: value for key, value in plain.items() if value not in (None, (), {}) or key in always}


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
    return Output(path, FILE, force=True, option=OPTION)
