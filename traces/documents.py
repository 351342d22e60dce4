"""The one door for JSON that this process did not write itself: limits first, then the parser, then strict rules.

    bytes -> at most so many -> UTF-8 -> at most `DEEPEST` levels -> parsed -> names unique, numbers of 64 bits, whole characters

What a profiler wrote often breaks the later rules, and has a reader of its own (`kineto.document`). Every refusal is an
`InputError` of one sentence. Nothing else in this package may parse JSON; a test walks the sources. Only the standard library is
needed here.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NoReturn

from .budget import DOCUMENT, charge
from .errors import InputError

DEEPEST: Final = 100
"""Levels of lists and objects. Our own documents have 9, torch.profiler's 7; Python's limit is 1,000 minus the stack."""

LOWEST: Final = -(1 << 63)
HIGHEST: Final = (1 << 63) - 1
"""What an integer of ours may be: the range of the int64 columns that it ends up in."""

_DIGITS: Final = 20
"""More characters than this are not int64, so they are refused before they are converted, which takes quadratic time."""

_SHOWN: Final = 40
"""Characters of a foreign text that an error repeats."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a document is called in errors, its largest length in bytes, and what to do about one that is refused.

    Parsed, a document takes up to about 20 times its length (a list of empty lists), usually 6 times.
    """

    what: str
    most_bytes: int
    remedy: str


MANIFEST: Final = Kind("a run manifest", 128 << 20, "capture the run again")
"""An iteration takes about 18 bytes: seven million of them. The largest seen has 0.2 MB."""

RESULT: Final = Kind("the result of a workload's process", 128 << 20, "correct the workload")
"""Part of a manifest, and so no longer than one."""

STEP: Final = Kind("a step that a capture kept", 128 << 20, "capture anew")
"""Holds one result."""

PLAN: Final = Kind("the plan of a capture", 16 << 20, "name an unfinished run's folder, or capture anew")
"""Mostly command lines, which Linux limits to 2 MiB each."""

ANSWER: Final = Kind("what a command wrote about itself", 128 << 20, "correct the command")
"""Lines of about 80 bytes, one for each iteration: 1.6 million."""

ANSWER_LINE: Final = Kind("a line of what a command wrote about itself", 64 << 10, "write one object a line")
"""A digest of 1,000 characters takes at most 12,000 bytes, all of them escaped."""

STAGES: Final = Kind("the stages of a trace", 256 << 20, "record again")
"""A range takes about 120 bytes: two million of them, with as many events in the trace beside it."""

CALIBRATION: Final = Kind("a calibration", 16 << 20, "calibrate again")
"""Two GPUs take 32 kB. A machine of 16 with all its 272 links takes 2 MB."""

EXPECTATIONS: Final = Kind("expectations", 16 << 20, "correct the file")
"""A claim takes about 1 kB: 16,000 of them. The largest file here has 45 kB."""

BUNDLE_INDEX: Final = Kind("the index of a bundle", 1 << 20, "ask for the bundle again")
"""A member takes about 160 bytes; a run has a dozen."""

VERDICT: Final = Kind("the verdict in a bundle", 64 << 20, "ask for the bundle again")
"""A verdict takes about 1 kB: 16,000 claims' worth and room for long reasons."""

EXPORT_MARK: Final = Kind("the list of an export's tables", 16 << 20, "name another folder")
"""A table's entry takes about 1 kB, and there are some 40 tables a trace."""

CACHE_KEY: Final = Kind("the key of a trace's cache", 16 << 20, "delete the cache")
"""Facts about one trace, as texts: a few kB. A longer one counts as none, and the trace is read again."""

PARTIAL: Final = Kind("a rank's partial", 1 << 20, "make it again with `aisp-trace analyze --partial`")
"""What a partial says of itself: a kB, and the name of its trace."""

CHILD: Final = Kind("the answer of a child process", 1 << 20, "see `aisp-trace doctor`")
"""A line of a few versions and names."""

KERNEL: Final = Kind("the artefact of a kernel", 16 << 20, "verify the kernel again")
"""A verification takes about 50 kB, most of it reasons."""

TORCH: Final = Kind("a torch.profiler trace", 8 << 30, "record fewer steps, or export the trace by rank")
"""A step of a large model has 50 to 500 MB."""


def read(file: Path, kind: Kind) -> Any:
    """The document in `file`. Raises `InputError` if it cannot be read, is too long, or breaks a rule (`parse`)."""
    return parse(read_bytes(file, kind), kind, str(file))


def read_text(file: Path, kind: Kind) -> str:
    """The text of `file`, not parsed yet, without a byte order mark; raises `InputError` as `read` does."""
    return _decoded(read_bytes(file, kind), kind, str(file))


def read_bytes(file: Path, kind: Kind) -> bytes:
    """The bytes of `file`, which is a regular file of at most ``kind.most_bytes``; never more than that is read."""
    require_file(file, kind, longest=False)
    try:
        with file.open("rb") as stream:
            data = stream.read(kind.most_bytes + 1)
    except OSError as exc:
        _unreadable(file, kind, exc)
    except MemoryError as exc:
        refuse(str(file), kind, "this machine has too little memory for it", exc)
    _check_length(len(data), kind, str(file))
    charge(file, len(data), DOCUMENT)
    return data


def require_file(file: Path, kind: Kind, *, longest: bool = True) -> None:
    """Raise `InputError` if `file` is not a regular file, or, with `longest`, has more than ``kind.most_bytes``."""
    try:
        facts = file.stat()
    except (OSError, ValueError) as exc:  # ValueError: a path with a null character
        _unreadable(file, kind, exc)
    if not stat.S_ISREG(facts.st_mode):
        refuse(str(file), kind, "it is not a regular file")
    if longest:
        _check_length(facts.st_size, kind, str(file))


def _unreadable(file: Path, kind: Kind, cause: Exception) -> NoReturn:
    refuse(str(file), kind, f"it cannot be read: {getattr(cause, 'strerror', None) or cause}", cause)


def parse(data: bytes | str, kind: Kind, where: str) -> Any:
    """`data` as strict JSON; `where` names it in errors.

    A UTF-8 byte order mark is skipped. Raises `InputError` for more than ``kind.most_bytes``, other encodings, more than
    `DEEPEST` levels, a key that an object has twice, integers beyond 64 bits, decimals beyond float64 (``1e999``), NaN and
    Infinity, half a surrogate pair, and everything else that is not JSON.
    """
    _check_length(len(data), kind, where)
    text = data.removeprefix("\ufeff") if isinstance(data, str) else _decoded(data, kind, where)
    try:
        _check_depth(text.encode("utf-8", "surrogatepass"))
        found = json.loads(
            text, object_pairs_hook=_once, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
        )
        if _HALF.search(text) or not text.isascii():
            _check_characters(found)
    except _RefusedError as exc:
        refuse(where, kind, str(exc), exc)
    except (ValueError, RecursionError) as exc:
        refuse(where, kind, f"it is not JSON ({exc})", exc)
    except MemoryError as exc:
        refuse(where, kind, "this machine has too little memory for it", exc)
    return found


def encoding_of(head: bytes) -> str:
    """The encoding of JSON that begins with `head`: UTF-8 or, as some tools of Windows save it, UTF-16 or UTF-32."""
    return json.detect_encoding(head)


def looks_like_json(head: bytes) -> bool:
    """Whether a file that begins with `head` is JSON if it is any of the kinds a trace may have."""
    text = head.decode(encoding_of(head), "ignore")
    return text.removeprefix("\ufeff").lstrip()[:1] in ("{", "[")


class _RefusedError(Exception):
    """What is wrong with a document, as the middle of a sentence."""


def refuse(where: str, kind: Kind, found: str, cause: BaseException | None = None) -> NoReturn:
    """Raise the `InputError` of a document `where` of which `found` is true."""
    raise InputError(f"{where} cannot be read as {kind.what}: {found}; {kind.remedy}") from cause


def _check_length(length: int, kind: Kind, where: str) -> None:
    if length > kind.most_bytes:
        refuse(where, kind, f"it is longer than {kind.most_bytes:,} bytes, the limit")


def _decoded(data: bytes, kind: Kind, where: str) -> str:
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as exc:
        refuse(where, kind, f"it is not UTF-8 text (byte {exc.start})", exc)


_CHUNK: Final = 1 << 20
_NO_MARKS: Final = bytes(set(range(256)) - set(b'"[]{}'))
_STEP: Final = [1 if c in b"[{" else -1 if c in b"]}" else 0 for c in range(256)]
_FOLDS: Final = 4
"""Levels that are taken off a chunk at once; torch.profiler's events have no more."""


def _check_depth(data: bytes) -> None:
    """Raise if brackets outside strings nest deeper than `DEEPEST`, or what is no JSON at all seems to.

    The parser recurses, so this comes before it. All but the last step is work on whole chunks:

        chunk               {"a[": [{"b\\"": 1}]}
        without escapes     {"a[": [{"b": 1}]}
        only quotes, brackets   {"["[{""}]}
        without empty strings   {"["[{}]}          an even number of quotes went, so each other one keeps its meaning
        outside strings      {[{}]}
    """
    depth, inside, held = 0, False, b""
    for first in range(0, len(data), _CHUNK):
        chunk = held + data[first : first + _CHUNK]
        held = b""
        if b"\\" in chunk:
            if (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:
                chunk, held = chunk[:-1], b"\\"  # the next chunk has what it escapes
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = chunk.translate(None, _NO_MARKS).replace(b'""', b"").split(b'"')
        brackets = b"".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0
        folded = brackets
        for _ in range(_FOLDS):
            folded = folded.replace(b"[]", b"").replace(b"{}", b"")
        if max(_levels(folded, depth)) + _FOLDS > DEEPEST and max(_levels(brackets, depth)) > DEEPEST:
            raise _RefusedError(f"it nests more than {DEEPEST} levels deep")
        depth = _levels(folded, depth)[-1]


def _levels(brackets: bytes, depth: int) -> Sequence[int]:
    return list(accumulate(map(_STEP.__getitem__, brackets), initial=depth))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RefusedError(f"key {_brief(twice)!r} appears twice in one object")
    return found


def _integer(text: str) -> int:
    value = int(text) if len(text) <= _DIGITS else None
    if value is None or not LOWEST <= value <= HIGHEST:
        raise _RefusedError(f"its integer {_brief(text)} does not fit 64 bits")
    return value


def _decimal(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedError(f"its number {_brief(text)} is not finite in 64 bits")
    return value


def _constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not a JSON number")


_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")


def _check_characters(value: Any) -> None:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += one.keys()
            left += one.values()
        elif isinstance(one, list):
            left += one
        elif isinstance(one, str):
            try:
                one.encode("utf-8")
            except UnicodeEncodeError:
                raise _RefusedError("a text in it has half a character (a lone surrogate)") from None


def _brief(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
