"""Unpack a .gz or .xz from anyone into a file: bounded on disk, and a small part of it at a time in memory."""

from __future__ import annotations

import gzip
import lzma
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from .budget import SQLITE, charge
from .budget import TORCH as TORCH_COST
from .documents import TORCH, looks_like_json
from .errors import InputError
from .output import reason

GZIP_MAGIC: Final = b"\x1f\x8b"
XZ_MAGIC: Final = b"\xfd7zXZ\x00"

MOST_UNFOLDING: Final = 200
"""A file may unfold to this many times its size, and `SLACK`. Traces compress to about a tenth; only zeros and loops do better
than this (deflate ends at 1,032, xz at about 7,000)."""

SLACK: Final = 64 << 20
"""Small files may unfold to this anyway: what a machine always has on its disk, and in memory some 20 times over."""

_PART: Final = 1 << 20


@contextmanager
def decompressed(path: Path) -> Iterator[Path]:
    """`path` itself, or its decompressed copy in a temporary folder that is gone afterwards; raises as `unpack` does."""
    head = head_of(path)
    if not packed(head):
        charge(path, path.stat().st_size, TORCH_COST if looks_like_json(head) else SQLITE)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as folder:
        plain = Path(folder) / "unpacked"
        unpack(path, plain)
        charge(path, plain.stat().st_size, TORCH_COST if looks_like_json(head_of(plain)) else SQLITE)
        yield plain


def head_of(path: Path) -> bytes:
    """The first bytes of `path`, which say what it is; raises `InputError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(256)
    except OSError as exc:
        raise InputError(f"{path} cannot be read as a trace: {exc.strerror or exc}; check the file") from exc


def packed(head: bytes) -> bool:
    """Whether a file that begins with `head` is one that `unpack` reads."""
    return head.startswith((GZIP_MAGIC, XZ_MAGIC))


def unpack(source: Path, target: Path) -> None:
    """Write what the .gz or .xz `source` holds to `target`.

    Raises `InputError` where `source` cannot be read, is damaged, or unfolds to more than a trace can (`MOST_UNFOLDING`; JSON
    also: `documents.TORCH`), and where `target` cannot be written. What was written is then for the caller to remove.
    """
    limit = MOST_UNFOLDING * source.stat().st_size + SLACK
    written = 0
    with target.open("wb") as out:
        try:
            with source.open("rb") as raw:
                gz = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
                raw.seek(0)
                with gzip.GzipFile(fileobj=raw) if gz else lzma.LZMAFile(raw) as stream:
                    while part := stream.read(_PART):
                        if not written and looks_like_json(part):
                            limit = min(limit, TORCH.most_bytes)
                        written += len(part)
                        if written > limit:
                            raise InputError(
                                f"{source} cannot be unpacked: it unfolds to more than {limit:,} bytes, as no trace of its "
                                "size does; unpack it yourself if you trust it"
                            )
                        _write(out, part, target)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as exc:
            raise InputError(f"{source} cannot be unpacked: it is damaged ({exc}); copy it again") from exc


def _write(out: BinaryIO, part: bytes, target: Path) -> None:
    try:
        out.write(part)
    except OSError as exc:
        raise InputError(
            f"the unpacked file does not fit {target.parent} ({reason(exc)}); set TMPDIR to another disk"
        ) from exc
