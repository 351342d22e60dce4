"""From files of the earlier schema to the present one, claim by claim, without another meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...traces import documents
from ...traces.documents import EXPECTATIONS, read_text
from ..model import EARLIER, SCHEMA, ExpectationFile, TimeClaim
from .load import PATTERN, expectation_files
from .parse import parse
from .write import file_text, write_file


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its text `before` and `after` (null: it has the present schema already), and how many claims and times it has."""

    path: Path
    before: str
    after: str | None
    claims: int
    times: int

    def write(self) -> None:
        """Replace the file, if there is anything to change; raises `InputError` if it has changed meanwhile."""
        if self.after is not None:
            write_file(self.path, self.after, self.before)


def migrated(paths: Sequence[Path] | None) -> list[Migration]:
    """What becomes of the files `paths` name (folders: all their files; null: those that apply here). Writes nothing.

    Raises `InputError` for a file that is not exactly right.
    """
    files = expectation_files(None) if not paths else []
    for path in paths or ():
        files += sorted(path.glob(PATTERN)) if path.is_dir() else [path]
    return [_migration(file) for file in files]


def _migration(file: Path) -> Migration:
    before = read_text(file, EXPECTATIONS)
    found = parse(before, str(file))
    earlier = documents.parse(before, EXPECTATIONS, str(file))["schema"] == EARLIER
    after = _rewritten(before, found, str(file)) if earlier else None
    return Migration(file, before, after, len(found.claims), sum(isinstance(c, TimeClaim) for c in found.claims))


def _rewritten(before: str, found: ExpectationFile, where: str) -> str:
    """`before` with the present schema's name alone where that keeps every claim's meaning, so that its layout stays."""
    renamed = before.replace(f'"{EARLIER}"', f'"{SCHEMA}"', 1)
    if parse(renamed, where) == found:
        return renamed
    return file_text(before, found.hardware_key, found.claims)
