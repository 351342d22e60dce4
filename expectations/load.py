"""Which expectations apply: the folder asked for, else the project's own, else the ones that come with this package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..traces.errors import InputError
from .model import ANY, Expectations
from .parse import parse, refuse_twins

PATTERN: Final = "expectations_*.json"
PROJECT_DIR: Final = "expectations"
"""Folder of a project, below the current one, whose expectations go before the package's."""

PACKAGE_DIR: Final = Path(__file__).resolve().parent


def load_expectations(asked: Path | None, project: Path) -> Expectations:
    """All expectations of one folder: `asked`, or ``project/expectations`` if it holds any, or the package's.

    Raises `InputError` if `asked` is no folder or holds no expectation file, if any file is not exactly right or is
    named for another hardware key than it says, or if a machine's file and the one for any machine share a claim id.
    """
    folder, chosen = _choose(asked, project)
    files = []
    for path in sorted(folder.glob(PATTERN)):
        found = parse(_read(path), str(path))
        if path.name != f"expectations_{found.hardware_key}.json":
            raise InputError(f"{path} holds hardware_key {found.hardware_key!r}; rename the file or correct the key")
        files.append(found)
    everywhere = [claim for f in files if f.hardware_key == ANY for claim in f.claims]
    for file in files:
        if file.hardware_key != ANY:
            refuse_twins((*everywhere, *file.claims), f"{folder}, for any machine and {file.hardware_key}")
    return Expectations(folder, chosen, tuple(files))


def _choose(asked: Path | None, project: Path) -> tuple[Path, str]:
    if asked is not None:
        if not asked.is_dir():
            raise InputError(f"--expectations {asked} is no folder; name one that holds {PATTERN}")
        if not any(asked.glob(PATTERN)):
            raise InputError(f"--expectations {asked} holds no file {PATTERN}; name a folder that does")
        return asked, "option"
    if any((project / PROJECT_DIR).glob(PATTERN)):
        return project / PROJECT_DIR, "project"
    return PACKAGE_DIR, "package"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path} is not UTF-8 text (byte {exc.start}); save it as UTF-8") from exc
