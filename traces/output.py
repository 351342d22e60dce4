"""Where results go: the one rule for every option that names a file or folder to write (docs/outputs.md).

    an input of the command          never written, not even with --force
    a folder, for a file             never written, nor a file for a folder
    a missing parent folder          never made: what an option names is made, nothing above it
    a file of another kind           replaced only with --force; its content decides, not its name
    a folder                         replaced only if it is an earlier export and holds nothing else
    a new page not called .html      never written: no browser would open it
    a link                           kept; what it points to is written
    /dev/stdout, /dev/null, a pipe   written to, never replaced; ``-`` is standard output

A file is built under a hidden name beside its place and renamed at the end, so the old one stays until the new one is
complete. Needs the standard library alone.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from .errors import InputError, UsageError

HEAD_BYTES: Final = 1 << 16
"""How much of an existing file is read to tell what it is."""

STDOUT: Final = "-"
"""Names standard output, as for other tools."""

_LINKS: Final = 40
"""Links that are followed before a path counts as a loop, as in the kernel."""

_DISK: Final = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOTEMPTY,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What an option writes; `name` is a noun without its article.

    `known` tells an earlier output by the first `HEAD_BYTES` of its content, unpacked where that is gzip; null: none is
    replaced without --force. `parts` makes this a kind of folder: it lists the files, relative to the folder, that an
    earlier output consists of, and answers null for any other folder. A new file has one of the `endings`, if there are any.
    """

    name: str
    known: Callable[[bytes], bool] | None = None
    parts: Callable[[Path], Collection[str] | None] | None = None
    endings: tuple[str, ...] = ()

    def knows(self, file: Path) -> bool:
        """Whether `file` is an earlier output of this kind."""
        try:
            return self.known is not None and self.known(_head(file))
        except OSError:  # what cannot be read is not visibly ours
            return False

    def __str__(self) -> str:
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a command reads: `files`, and the run folders `runs` with every file in them.

    A file directly in a run folder that is an earlier output of the same kind (``RUN/report.html``) is not part of the run.
    """

    files: Sequence[Path] = ()
    runs: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """One file or folder to write: the `path` that `option` named, and what may not be lost by writing it.

    A long class because what was checked must be what is written: every check and every way of writing looks at the same place.
    """

    path: Path
    kind: Kind
    inputs: Inputs = Inputs()
    force: bool = False
    option: str = "--output"

    @property
    def to_stdout(self) -> bool:
        """Whether this goes to standard output, so that nothing else should."""
        with suppress(OSError):
            return self.kind.parts is None and _descriptor(self._named) == 1
        return False

    @property
    def is_stream(self) -> bool:
        """Whether bytes are written to what is there (a device, a pipe, an open file), since no rename takes its place."""
        with suppress(OSError):
            return self._streams(self._named.stat())
        return False

    @property
    def replaces(self) -> bool:
        """Whether a file is there now, in whose place this would be put."""
        return not self.is_stream and self._place.is_file()

    def check_place(self) -> None:
        """The part of `check` that holds for names made of this one as well: it is not an input, no folder, and can be made."""
        with self._told():
            self._refuse_place()

    def check(self) -> None:
        """Refuse what the rule refuses; call it before the work, which may take minutes. Writes nothing.

        Raises `UsageError` for what may not be replaced, `InputError` for a place that cannot be written.
        """
        with self._told():
            self._check()

    @contextmanager
    def file(self) -> Iterator[Path]:
        """A path to write to; its content takes its place when the block ends well, and vanishes when it does not.

        Raises as `check` does. An `OSError` in the block is an `InputError` that names the output: the disk is full.
        """
        with self._told():
            found = self._check()
            if found is not None and self._streams(found):
                with tempfile.TemporaryDirectory(prefix="aisp-trace-") as folder:
                    building = Path(folder) / "output"
                    yield building
                    with building.open("rb") as source, self._open_stream() as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)
                return
            with _temporary(self._place) as building:
                yield building
                _sync(building)
                self._check()  # again: the work took its time
                _settle(building, self._place, appeared=self._check)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """As `file`, for a new folder to fill."""
        with self._told():
            self._check()
            place = self._place
            building, old = _hidden(place, "tmp"), _hidden(place, "old")
            try:
                building.mkdir()
                yield building
                for file in building.rglob("*"):
                    if file.is_file():
                        _sync(file)
                if self._check() is None:
                    building.rename(place)
                else:
                    self._exchange(building, place, old)
            finally:
                shutil.rmtree(building, ignore_errors=True)
                if place.exists():  # else `old` is what was there, and could not be put back
                    shutil.rmtree(old, ignore_errors=True)

    def write_text(self, text: str) -> None:
        """Write `text` as a whole file; raises as `file` does."""
        with self.file() as building:
            building.write_text(text, encoding="utf-8")

    def append_text(self, text: str) -> None:
        """Add `text` to the end of the file, which is made if need be: all of it or nothing.

        What the file holds stays, so its kind does not matter. Raises as `check` does otherwise.
        """
        with self._told():
            self._refuse_place()
            with os.fdopen(os.open(self._named, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), "wb") as file:
                before = os.fstat(file.fileno())
                try:
                    file.write(text.encode())
                    file.flush()
                except OSError:
                    if stat.S_ISREG(before.st_mode):
                        os.ftruncate(file.fileno(), before.st_size)
                    file.raw.close()  # or closing would try the rest once more
                    raise

    @property
    def _named(self) -> Path:
        return Path("/dev/stdout") if str(self.path) == STDOUT and self.kind.parts is None else self.path

    @property
    def _place(self) -> Path:
        """What is written: where `path` is a link, that to which it leads."""
        return Path(os.path.realpath(self._named))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Inside, an `OSError` becomes the sentence for a place that cannot be written."""
        try:
            yield
        except BrokenPipeError:
            if self.to_stdout:
                raise  # as wherever the reader of what is printed leaves
            raise self.failed("its reader has left") from None
        except OSError as exc:
            raise self.failed(reason(exc)) from exc

    def failed(self, why: str) -> InputError:
        """The error for a place that cannot be written."""
        return InputError(
            f"{self.path} cannot be written: {why}; nothing was changed, name another place with {self.option}"
        )

    def _check(self) -> os.stat_result | None:
        """What is there and may be replaced or written to; null: nothing is there."""
        found = self._refuse_place()
        if found is None or self._streams(found):
            return found
        if self.kind.parts is not None:
            self._refuse_folder(self._place)
        elif not self.force:
            if not self.kind.knows(self._place):
                what = f"is not {self.kind}" if self.kind.known else "is not replaced unasked"
                raise UsageError(
                    f"{self.path} exists and {what}; choose another name with {self.option}, or replace it with --force"
                )
            if not found.st_mode & 0o222:
                raise UsageError(
                    f"{self.path} is write-protected; choose another name with {self.option}, or replace it with --force"
                )
        return found

    def _refuse_place(self) -> os.stat_result | None:
        """What holds for every way to write: inputs, folders, disks, and the folder above."""
        folder = self.kind.parts is not None
        if folder and str(self.path) == STDOUT:
            raise UsageError(f"a folder cannot go to standard output; name one with {self.option}")
        try:
            found = self._named.stat()
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if found is not None:
            if (taken := self._input(found)) is not None:
                what = "" if taken == self.path else f" as {taken}"
                raise UsageError(
                    f"{self.path} is read by this command{what} and cannot be the output too, even with --force; choose "
                    f"another {self.option}"
                )
            if stat.S_ISDIR(found.st_mode) and not folder:
                raise UsageError(
                    f"{self.path} is a folder where a file is to be written; name a file with {self.option}"
                )
            if folder and not stat.S_ISDIR(found.st_mode):
                raise UsageError(
                    f"{self.path} is a file where a folder is to be written; name a folder with {self.option}"
                )
            if stat.S_ISBLK(found.st_mode):
                raise UsageError(f"{self.path} is a disk and is never written; name a file with {self.option}")
            if self._streams(found):
                return found
        above = self.path.parent if not self.path.is_symlink() else self._place.parent
        _require_parent(self.path, above)
        endings = self.kind.endings
        named = {path.suffix.lower() for path in (self.path, self._place)}
        if found is None and endings and named.isdisjoint(endings):
            raise UsageError(
                f"{self.path} would hold {self.kind}, which is an HTML page; name a file that ends in {endings[0]} with "
                f"{self.option}"
            )
        return found

    def _input(self, found: os.stat_result) -> Path | None:
        """The input that `found` is, under whatever name."""
        for file in self.inputs.files:
            with suppress(OSError):
                if os.path.samestat(file.stat(), found):
                    return file
        if not stat.S_ISREG(found.st_mode):
            return None
        for run in self.inputs.runs:
            for file in run.rglob("*"):
                with suppress(OSError):
                    if os.path.samestat(file.stat(), found) and not (file.parent == run and self.kind.knows(file)):
                        return file
        return None

    def _refuse_folder(self, folder: Path) -> None:
        """Raise unless `folder` is an earlier export, to its last file."""
        assert self.kind.parts is not None
        parts = self.kind.parts(folder)
        if parts is None:
            raise UsageError(
                f"{self.path} exists and is not {self.kind}, so it is not replaced, even with --force; choose another "
                f"{self.option}"
            )
        for entry in sorted(folder.rglob("*")):
            name = entry.relative_to(folder).as_posix()
            part = (
                name in parts
                if not entry.is_dir()
                else any(PurePosixPath(name) in PurePosixPath(p).parents for p in parts)
            )
            if entry.is_symlink() or not part:
                raise UsageError(
                    f"{self.path} holds {name}, which is not part of an earlier export, so it is not replaced, even with "
                    f"--force; move that file, or choose another {self.option}"
                )

    def _exchange(self, building: Path, place: Path, old: Path) -> None:
        """Put the folder `building` where `place` is, and `place` to `old`."""
        building.chmod(stat.S_IMODE(place.stat().st_mode))
        try:
            place.rename(old)
            self._refuse_folder(old)  # once more, where nobody can add to it by its name
            building.rename(place)
        except BaseException:
            if old.exists() and not place.exists():
                old.rename(place)
            raise

    def _streams(self, found: os.stat_result) -> bool:
        return not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)) or (
            self.kind.parts is None and _descriptor(self._named) is not None
        )

    def _open_stream(self) -> IO[bytes]:
        number = _descriptor(self._named)
        if number is None:
            return os.fdopen(os.open(self._named, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)), "wb")
        if number == 1 and sys.stdout is not None:
            sys.stdout.flush()
        # Opened anew, a file behind it would be written from its start, over what was printed there before.
        return os.fdopen(os.dup(number), "wb")


def check_all(outputs: Sequence[Output]) -> None:
    """`Output.check` of each, and `UsageError` if two would be one file or both standard output. Writes nothing."""
    places: dict[Path, Output] = {}
    for output in outputs:
        output.check()
        if output.is_stream and not output.to_stdout:
            continue
        other = places.setdefault(output._place if not output.to_stdout else Path(STDOUT), output)
        if other is not output:
            raise UsageError(f"{other.option} and {output.option} both name {output.path}; name a file for each")


def check_container(folder: Path, option: str) -> None:
    """Refuse a `folder` in which no new things can be put: a file, one that cannot be made, one that cannot be written.

    Raises `UsageError` or `InputError`; makes nothing.
    """
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise UsageError(f"{folder} is a file where a folder is to be written; name a folder with {option}")
    except (FileNotFoundError, NotADirectoryError):
        _require_parent(folder, folder.parent)
    except OSError as exc:
        raise InputError(f"{folder} cannot be written: {reason(exc)}; name another place with {option}") from exc
    else:
        _require_writable(folder, folder)


def make_container(folder: Path, option: str) -> bool:
    """Make `folder` where it does not exist yet, and say whether that was so; raises as `check_container` does."""
    check_container(folder, option)
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as exc:
        raise InputError(f"{folder} cannot be made: {reason(exc)}; name another place with {option}") from exc
    return True


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """A path to write to, whose content replaces `place` in one step: readers see the old file or the new one.

    For files that the program names itself, such as a manifest; those that an option names are an `Output`.
    Raises `OSError`.
    """
    with _temporary(place) as building:
        yield building
        _sync(building)
        _settle(building, place, appeared=lambda: None)


def real(path: Path) -> Path:
    """`path` without links. Where links run in a circle, for which `Path.resolve` raises until Python 3.13, a link is left, and
    opening it fails as any file does."""
    return Path(os.path.realpath(path))


def reason(exc: OSError) -> str:
    """Why the system refused, in its own words."""
    return exc.strerror or re.sub(r" \(os error \d+\)$", "", str(exc))


def is_disk_error(exc: OSError) -> bool:
    """Whether `exc` says that a disk is full or a place may not be written, which no bug does."""
    return exc.errno in _DISK


def _require_parent(path: Path, parent: Path) -> None:
    if not parent.is_dir():
        raise InputError(f"{path} cannot be written because {parent} is not a folder; make it first")
    _require_writable(path, parent)


def _require_writable(path: Path, folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written because nothing can be written in {folder}; name another place")


def _descriptor(path: Path) -> int | None:
    """The open file that `path` names by its number, as ``/dev/stdout`` and ``/dev/fd/3`` do; null if it does not."""
    own = Path("/proc/self/fd").resolve()
    for _ in range(_LINKS):
        if path.name.isdecimal() and os.path.realpath(path.parent) == str(own):
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _head(file: Path) -> bytes:
    with file.open("rb") as raw:
        found = raw.read(HEAD_BYTES)
    if found.startswith(b"\x1f\x8b"):
        with suppress(OSError, EOFError, zlib.error), gzip.open(file) as packed:
            return packed.read(HEAD_BYTES)
    return found


def _hidden(place: Path, ending: str) -> Path:
    """A free name beside `place`. Its length does not depend on that of `place`, which may be as long as names can be."""
    return place.with_name(f".aisp-trace-{os.urandom(8).hex()}.{ending}")


@contextmanager
def _temporary(place: Path) -> Iterator[Path]:
    building = _hidden(place, "tmp")
    try:
        os.close(os.open(building, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield building
    finally:
        with suppress(OSError):
            building.unlink(missing_ok=True)


def _sync(file: Path) -> None:
    """Some disks only say that they are full when they are asked to keep what they took."""
    with file.open("rb+") as written:
        os.fsync(written.fileno())


def _settle(building: Path, place: Path, appeared: Callable[[], object]) -> None:
    """Rename `building` to `place`, with the owner and mode of what is there; `appeared` may refuse what was not there before."""
    try:
        old = place.stat()
    except FileNotFoundError:
        try:
            os.link(building, place)  # unlike a rename, fails if somebody made `place` meanwhile
            return
        except FileExistsError:
            appeared()
        except OSError:  # a file system without hard links
            pass
    else:
        with suppress(OSError, AttributeError):  # another's file stays theirs where we may say so; Windows has no chown
            os.chown(building, old.st_uid, old.st_gid)
        building.chmod(old.st_mode & 0o777)
    building.replace(place)
