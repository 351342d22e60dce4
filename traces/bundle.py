"""The archive of a proof: every file of a folder, its SHA-256, and nothing else; the same folder gives the same bytes.

    <run>/index.json            what follows, in this order, with lengths and checksums, and whose signature, if any
    <run>/index.json.sig        the signature of the index, where it names a signer
    <run>/expectations/...      one tar header and the content of each
    <run>/report.html

It is a .tar.gz that any `tar` unpacks, but it is not read by a general reader: an archive from a stranger may name files
outside its folder, links and devices, or unfold to more than a disk holds. Here the index says what each header must be, and
a header that differs by one bit from the one `pack` would have written is refused. So nothing but plain files of
announced lengths can come out, in a folder of the caller's.

Needs the standard library alone, but for signatures (signing.py).
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from .content import RUN_ID
from .documents import BUNDLE_INDEX, parse
from .errors import InputError, UsageError
from .output import Kind, reason, replacing
from .run import ADDED, from_json
from .signing import NEEDED, SIGNATURE_TEXT_BYTES, Key, fingerprint, is_public, is_right

SCHEMA: Final = "aisp-trace/bundle/1"
INDEX: Final = "index.json"
SIGNATURE: Final = "index.json.sig"

MOST_BYTES: Final = 32 << 30
"""Largest sum of all members' lengths."""
MOST_OF_ONE: Final = (8 << 30) - 1
"""Largest member: what the eleven octal digits of a tar header can say."""
MOST_INDEX_BYTES: Final = BUNDLE_INDEX.most_bytes
MOST_UNFOLDING: Final = 200
"""A bundle may unfold to this many times its size, and 64 MiB. Traces compress to about a tenth; only zeros do better
than this (deflate ends at 1,032)."""

_BLOCK: Final = 512
_RECORD: Final = 20 * _BLOCK
_CHUNK: Final = 1 << 20
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_PATH: Final = re.compile(f"{_PART}(/{_PART})*")
"""No part begins with a dot, so none leads upwards, and none is empty, so none is absolute."""


def is_bundle(head: bytes) -> bool:
    """Whether `head`, the beginning of an unpacked archive, is that of a bundle: its index, which says so."""
    name, _, _ = head[:100].partition(b"\0")
    return name.endswith(f"/{INDEX}".encode()) and b'"schema": "aisp-trace/bundle/' in head[_BLOCK : 2 * _BLOCK]


def holds_bundle(file: Path) -> bool:
    """Whether `file` is an archive that begins as a bundle does; false for what cannot be read."""
    try:
        with gzip.open(file) as stream:
            return is_bundle(stream.read(2 * _BLOCK))
    except (OSError, EOFError, zlib.error):
        return False


BUNDLE: Final = Kind("bundle of aisp-trace", is_bundle)


@dataclass(frozen=True, slots=True)
class Member:
    """One file: its path below the folder, its length, and the SHA-256 of its content in hexadecimal."""

    path: str
    nbytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Index:
    """What a bundle holds besides this index. `made_with` maps the programs that made it to their versions.

    `signed_by` is the public key whose signature follows, as OpenSSH writes it; null where nobody signed. A bundle whose
    signature alone is gone or exchanged is refused; one whose index names no key is another bundle, unsigned.
    """

    schema: str
    run_id: str
    made_with: Mapping[str, str]
    members: Sequence[Member]
    signed_by: str | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was written or read. `identity` is the SHA-256 of its index, and so speaks for every byte in it.

    `signature_checked`: it is signed, and the signature is right. A wrong one is never returned, but without the package for it
    none can be checked.
    """

    index: Index
    identity: str
    signature_checked: bool = False


def pack(
    folder: Path,
    target: Path,
    run_id: str,
    made_with: Mapping[str, str],
    told: Callable[[str, int], None] | None = None,
    key: Key | None = None,
) -> Bundle:
    """Write every file of `folder` to the bundle `target`, which appears only when complete; the file there is replaced.

    With `key` it is signed; the key itself stays outside. `told` is called with the path and length of each member before it is
    written. Raises `InputError` if the folder cannot be a bundle (a name that is none, or too many bytes), and `OSError` if
    `target` cannot be written.
    """
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = [folder / path for path in paths]
    members = tuple(_member(file, path) for file, path in zip(files, paths, strict=True))
    index = Index(SCHEMA, run_id, dict(sorted(made_with.items())), members, None if key is None else key.public)
    text = (json.dumps({k: v for k, v in asdict(index).items() if v is not None}, indent=1) + "\n").encode()
    identity = hashlib.sha256(text).hexdigest()
    _check(index, len(text), str(target))
    root = _root(run_id)
    with replacing(target) as building, building.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as out:
        for name, content in [(INDEX, text)] + ([] if key is None else [(SIGNATURE, key.sign(identity))]):
            out.write(_header(f"{root}/{name}", len(content)) + content + bytes(-len(content) % _BLOCK))
        for file, member in zip(files, members, strict=True):
            if told is not None:
                told(member.path, member.nbytes)
            out.write(_header(f"{root}/{member.path}", member.nbytes))
            with file.open("rb") as source:
                shutil.copyfileobj(source, out, _CHUNK)
            out.write(bytes(-member.nbytes % _BLOCK))
        out.write(bytes(_tail(len(text), index)))
    return Bundle(index, identity, key is not None)


def unpack(file: Path, folder: Path, signers: Sequence[str] = ()) -> Bundle:
    """Put the members of bundle `file` into the empty `folder`, each checked against its length and checksum.

    Raises `InputError` if `file` is missing, no bundle, damaged, differs from its index in anything, has a wrong signature, or
    with `signers` (public keys) is not signed by one of them; `UsageError` where that cannot be checked here.
    """
    with _reading(file) as stream:
        root, text = _read_index(stream, file)
        where = f"{file}, its {INDEX}"
        index = from_json(Index, parse(text, BUNDLE_INDEX, where), where)
        _check(index, len(text), str(file))
        if root != _root(index.run_id):
            raise InputError(f"{file} is not a bundle as aisp-trace writes them: its folder is not that of its run")
        _check_room(index, file, folder)
        identity = hashlib.sha256(text).hexdigest()
        checked = _check_signature(stream, root, index, identity, signers, file)
        for member in index.members:
            _take(stream, f"{root}/{member.path}", member, folder / member.path, file)
        tail = _tail(len(text), index)
        if stream.read(tail + 1) != bytes(tail):
            raise InputError(f"{file} holds more than its index says, or less; ask for the bundle again")
    return Bundle(index, identity, checked)


def _check_signature(
    stream: gzip.GzipFile, root: str, index: Index, identity: str, signers: Sequence[str], file: Path
) -> bool:
    """Whether the bundle is signed and the signature right, which is read from `stream` if there is one."""
    key = index.signed_by
    if key is None:
        if signers:
            raise InputError(f"{file} is unsigned, and was to be signed by {_known_as(signers)}")
        return False
    if stream.read(_BLOCK) != _header(f"{root}/{SIGNATURE}", SIGNATURE_TEXT_BYTES):
        raise InputError(f"{file}: its index names a signer, and no signature follows; ask for the bundle again")
    signature = stream.read(SIGNATURE_TEXT_BYTES)
    right = is_right(key, identity, signature) if not any(stream.read(-SIGNATURE_TEXT_BYTES % _BLOCK)) else False
    if right is False:
        raise InputError(
            f"{file}: its signature is not that of {fingerprint(key)}, whom its index names; do not believe it"
        )
    if signers and key not in signers:
        raise InputError(f"{file} is signed by {fingerprint(key)}, and was to be signed by {_known_as(signers)}")
    if signers and right is None:
        raise UsageError(NEEDED)
    return right is True


def _known_as(signers: Sequence[str]) -> str:
    return " or ".join(map(fingerprint, signers[:3])) + (f" or {len(signers) - 3} more" if len(signers) > 3 else "")


@contextmanager
def _reading(file: Path) -> Iterator[gzip.GzipFile]:
    try:
        with gzip.open(file, "rb") as stream:
            yield stream
    except (OSError, EOFError, zlib.error) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        raise InputError(
            f"{file} cannot be read as a bundle: it is damaged or not a bundle ({reason}); copy it again"
        ) from exc


def _read_index(stream: gzip.GzipFile, file: Path) -> tuple[str, bytes]:
    """The archive's folder, and the text of its index."""
    block = stream.read(_BLOCK)
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as exc:
        raise InputError(
            f"{file} cannot be read as a bundle: it does not begin with an index ({exc}); copy it again"
        ) from exc
    root, _, name = info.name.partition("/")
    if name != INDEX or not 0 < info.size <= MOST_INDEX_BYTES or not _PATH.fullmatch(root):
        raise InputError(
            f"{file} cannot be read as a bundle: it does not begin with an {INDEX}; name a file made by `aisp-trace bundle`"
        )
    if block != _header(info.name, info.size):
        raise InputError(f"{file} is not a bundle as aisp-trace writes them: the header of its {INDEX} was changed")
    text = stream.read(info.size)
    if len(text) != info.size or any(stream.read(-info.size % _BLOCK)):
        raise InputError(f"{file} cannot be read as a bundle: its {INDEX} is cut short")
    return root, text


def _take(stream: gzip.GzipFile, name: str, member: Member, target: Path, file: Path) -> None:
    if stream.read(_BLOCK) != _header(name, member.nbytes):
        raise InputError(f"{file}: {member.path} does not follow as the plain file that the index says it is")
    digest, left = hashlib.sha256(), member.nbytes
    with _unpacking(target, file):
        target.parent.mkdir(parents=True, exist_ok=True)
        out = target.open("xb", buffering=0)
    with out:
        while left and (chunk := stream.read(min(left, _CHUNK))):
            digest.update(chunk)
            with _unpacking(target, file):
                if out.write(chunk) != len(chunk):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left -= len(chunk)
    if left or any(stream.read(-member.nbytes % _BLOCK)) or digest.hexdigest() != member.sha256:
        raise InputError(f"{file}: the checksum of {member.path} is wrong: it was damaged or changed")


@contextmanager
def _unpacking(target: Path, file: Path) -> Iterator[None]:
    """Inside, an `OSError` is about the disk that takes the members, not about the bundle that is read."""
    try:
        yield
    except OSError as exc:
        raise InputError(
            f"{file} cannot be unpacked in {target.parent}, which cannot be written ({reason(exc)}); set TMPDIR to "
            "another disk"
        ) from exc


def _member(file: Path, path: str) -> Member:
    with file.open("rb") as content:
        return Member(path, file.stat().st_size, hashlib.file_digest(content, "sha256").hexdigest())


def _header(name: str, nbytes: int) -> bytes:
    """The one tar header that a member of this name and length may have: a plain file of nobody's, from 1970."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = nbytes, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _tail(index_bytes: int, index: Index) -> int:
    """Zeros that end the archive: two blocks, then up to a whole record, as `tar` does."""
    signature = [] if index.signed_by is None else [SIGNATURE_TEXT_BYTES]
    used: int = sum(_BLOCK + n + -n % _BLOCK for n in (index_bytes, *signature, *(m.nbytes for m in index.members)))
    return 2 * _BLOCK + -(used + 2 * _BLOCK) % _RECORD


def _root(run_id: str) -> str:
    """The folder in the archive: the run's id, of which a file system takes the first part."""
    return run_id[:80]


def _check(index: Index, index_bytes: int, where: str) -> None:
    if index.schema != SCHEMA:
        raise InputError(
            f"{where} is a bundle of schema {index.schema!r}, not {SCHEMA!r}; use the version that made it"
        )
    if not RUN_ID.fullmatch(index.run_id):
        raise InputError(f"{where}: {index.run_id[:80]!r} is not a run's id; ask for the bundle again")
    if index.signed_by is not None and not is_public(index.signed_by):
        raise InputError(f"{where}: its index names a signer that is not a public key; ask for the bundle again")
    paths = [m.path for m in index.members]
    for member in index.members:
        if not _PATH.fullmatch(member.path) or len(member.path) > 90 or member.path in (INDEX, SIGNATURE):
            raise InputError(f"{where}: {member.path[:90]!r} is not a name of a bundle's member")
        if not 0 <= member.nbytes <= MOST_OF_ONE:
            raise InputError(f"{where}: {member.path} has {member.nbytes:,} bytes; a member may have {MOST_OF_ONE:,}")
    folders = {str(parent) for p in paths for parent in Path(p).parents}
    if sorted(set(paths)) != paths or folders & set(paths):
        raise InputError(f"{where}: the members of its index are not in order, or not different")
    if index_bytes > MOST_INDEX_BYTES or sum(m.nbytes for m in index.members) > MOST_BYTES:
        raise InputError(f"{where}: a bundle may hold {MOST_BYTES >> 30} GiB; this is more")


def _check_room(index: Index, file: Path, folder: Path) -> None:
    total = sum(m.nbytes for m in index.members)
    if total > MOST_UNFOLDING * file.stat().st_size + (64 << 20):
        raise InputError(
            f"{file} says it unfolds to {total:,} bytes, an impossible ratio for a recording; it was not unpacked"
        )
    free = shutil.disk_usage(folder).free
    if total > free:
        raise InputError(
            f"{file} needs {total:,} bytes in {folder.parent}, which has {free:,}; set TMPDIR to another disk"
        )
