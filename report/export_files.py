"""Where exports go: complete or not at all, and never over something that is there, unless asked.

A file or folder is built under a hidden name beside its target and renamed at the end. With `force` an existing file is
replaced; an existing folder only if it is an export itself (it has `MARK`), because replacing one deletes what is in it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..traces.errors import InputError, UsageError

MARK: Final = "export.json"
"""The file every exported folder has."""


def check_free(target: Path, *, force: bool, folder: bool) -> None:
    """Raise `UsageError` if `target` may not be written, `InputError` if its folder does not exist."""
    if not target.parent.is_dir():
        raise InputError(f"{target} cannot be written because {target.parent} is no folder; make it first")
    if not (target.exists() or target.is_symlink()):
        return
    if not force:
        raise UsageError(f"{target} exists and is not overwritten; choose another name with -o, or give --force")
    if folder and not (target / MARK).is_file():
        raise UsageError(f"{target} is no earlier export, so it is not replaced even with --force; choose another -o")
    if not folder and target.is_dir():
        raise UsageError(f"{target} is a folder where a file is to be written; choose another name with -o")


@contextmanager
def new_file(target: Path, *, force: bool) -> Iterator[Path]:
    """A path to write to; its file becomes `target` when the block ends well, and vanishes when it does not."""
    check_free(target, force=force, folder=False)
    building = _beside(target)
    try:
        yield building
        try:
            _settle(building, target, force)
        except FileExistsError as error:
            raise UsageError(f"{target} appeared meanwhile and is not overwritten; choose another -o") from error
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        building.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """A new folder to fill; it becomes `target` when the block ends well, and vanishes when it does not."""
    check_free(target, force=force, folder=True)
    try:
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}") from error
    try:
        yield building
        building.chmod(0o777 & ~_umask())  # mkdtemp made it private
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
            target.rename(old / "export")
            building.rename(target)
            shutil.rmtree(old)
        else:
            building.rename(target)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def _settle(building: Path, target: Path, force: bool) -> None:
    if force:
        building.replace(target)
        return
    try:
        os.link(building, target)  # unlike a rename, fails if somebody made `target` meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(target) from None
        building.rename(target)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
