"""Which expectations apply: the folder asked for, else the project's own, else the ones that come with this package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ...traces.documents import EXPECTATIONS, read_text
from ...traces.errors import InputError
from ..model import ANY, ExpectationFile, Expectations
from .parse import parse
from .rules import refuse_twins

FILE_PREFIX: Final = "expectations_"
PATTERN: Final = f"{FILE_PREFIX}*.json"
PROJECT_DIR: Final = "expectations"
"""Folder of a project, below the current one, whose expectations go before the package's."""

PACKAGE_DIR: Final = Path(__file__).resolve().parents[1]


def load_expectations(asked: Path | None, project: Path) -> Expectations:
    """All expectations of one folder: `asked`, or ``project/expectations`` if it holds any, or the package's.

    Raises `InputError` if `asked` is not a folder or holds no expectation file, if any file is not exactly right or is
    named for another hardware key than it says, or if a machine's file and the one for any machine share a claim id.
    """
    folder, chosen = choose_folder(asked, project)
    return load_folder(folder, chosen)


def load_folder(folder: Path, chosen: str) -> Expectations:
    """As `load_expectations`, for this folder; it may hold no expectations."""
    files = []
    for path in sorted(folder.glob(PATTERN)):
        found = load_file(path)
        files.append(found)
    everywhere = [claim for f in files if f.hardware_key == ANY for claim in f.claims]
    for file in files:
        if file.hardware_key != ANY:
            refuse_twins((*everywhere, *file.claims), f"{folder}, for any machine and {file.hardware_key}")
    return Expectations(folder, chosen, tuple(files))


def load_file(path: Path) -> ExpectationFile:
    """The claims of one file; raises `InputError` if it is not exactly right or named for another hardware key."""
    found = parse(read_text(path, EXPECTATIONS), str(path))
    if path.name != file_name(found.hardware_key):
        raise InputError(f"{path} holds hardware_key {found.hardware_key!r}; rename the file or correct the key")
    return found


def file_name(hardware_key: str) -> str:
    """``expectations_<hardware_key>.json``."""
    return f"{FILE_PREFIX}{hardware_key}.json"


def choose_folder(asked: Path | None, project: Path) -> tuple[Path, str]:
    """The folder whose expectations apply, and why (see `load_expectations`); its files are not read."""
    if asked is not None:
        if not asked.is_dir():
            raise InputError(f"--expectations {asked} is not a folder; name one that holds {PATTERN}")
        if not any(asked.glob(PATTERN)):
            raise InputError(f"--expectations {asked} holds no file {PATTERN}; name a folder that does")
        return asked, "option"
    if any((project / PROJECT_DIR).glob(PATTERN)):
        return project / PROJECT_DIR, "project"
    return PACKAGE_DIR, "package"


def expectation_files(asked: Path | None) -> list[Path]:
    """The files by which a run is judged (`choose_folder`); raises `InputError` if `asked` holds none."""
    return sorted(choose_folder(asked, Path.cwd())[0].glob(PATTERN))
