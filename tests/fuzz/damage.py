"""Damage to bytes, texts and JSON, all of it drawn from one `random.Random`."""

from __future__ import annotations

import gzip
import json
import lzma
from random import Random
from typing import Any, Final

HUGE: Final = (
    *(
        0,
        1,
        -1,
        2**31 - 1,
        2**31,
        -(2**31),
        2**32,
        2**47,
        2**53,
        2**53 + 1,
        2**61 - 1,
        2**61,
        2**62,
        -(2**62),
        2**63 - 1,
    ),
    -(2**63),
)
"""Integers at the ends of what columns hold."""

TEXTS: Final = (
    "",
    " ",
    "\0",
    "\x1b[31mred\x1b[0m",
    "a\nb\r\nc",
    "::error::x",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE StringIds; --",
    '=HYPERLINK("http://x")',
    "../../../etc/passwd",
    "\u202egnp.exe",
    "é" * 40,
    "\U0001f525" * 20,
    "%s%n{0}{{}}[bold]x[/bold]",
    "a/b\\/c//d/",
    "iteration",
    "step 12",
    "ProfilerStep#3",
    "measured",
    "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*)",
    "NaN",
    "-0",
    "1e999",
    "x" * 5000,
    "</script><!--",
    "]]>",
    "\ufeff",
    "null",
)
"""Texts that mean something to somebody downstream."""


def text(rng: Random) -> str:
    """A hostile text."""
    if rng.random() < 0.7:
        return rng.choice(TEXTS)
    return "".join(
        chr(rng.choice((rng.randrange(1, 128), rng.randrange(1, 0xD800)))) for _ in range(rng.randrange(1, 30))
    )


def number(rng: Random) -> int:
    """A hostile integer that SQLite can hold."""
    return (
        rng.choice(HUGE)
        if rng.random() < 0.6
        else rng.randrange(-(2 ** rng.randrange(1, 63)), 2 ** rng.randrange(1, 63))
    )


def cell(rng: Random, was: Any = None) -> Any:
    """What may stand in an SQLite cell instead of `was`."""
    kind = rng.randrange(10)
    if kind < 3:
        return number(rng)
    if kind == 3 and isinstance(was, int):
        return max(min(was + rng.choice((-1, 1, 1000, -1000, 10**9)), 2**63 - 1), -(2**63))
    if kind == 4 and isinstance(was, int):
        return -was if was > -(2**63) else 0
    return (None, text(rng), rng.randbytes(rng.randrange(0, 12)), rng.uniform(-1e3, 1e20), float("inf"), str(was))[
        rng.randrange(6)
    ]


def value(rng: Random, was: Any = None, deep: bool = True) -> Any:
    """What may stand in a JSON document instead of `was`."""
    kind = rng.randrange(14)
    if kind == 0:
        return None
    if kind == 1:
        return rng.choice((True, False))
    if kind < 4:
        return rng.choice((*HUGE, 2**64, -(2**70), 10**30))
    if kind == 4:
        return rng.choice((0.5, -0.0, 1e-300, 1e300, float("nan"), float("inf"), -1.5, 1e18, 3.0000001))
    if kind < 7:
        return text(rng)
    if kind == 7:
        return []
    if kind == 8:
        return {}
    if kind == 9 and isinstance(was, int | float) and not isinstance(was, bool):
        return was * rng.choice((-1, 2, 1000, 10**6)) if was == was else 0
    if kind == 10:
        return str(was)
    if kind == 11:
        return [was]
    if kind == 12 and deep:
        nested: Any = was
        for _ in range(rng.choice((3, 50, 120, 400))):
            nested = [nested] if rng.random() < 0.5 else {"x": nested}
        return nested
    return {text(rng): was}


def document(rng: Random, of: Any, times: int | None = None) -> Any:
    """A copy of the JSON value `of` with some places changed, removed, added or moved."""
    copy = json.loads(json.dumps(of))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8)) if times is None else times):
        before = json.dumps(copy)
        copy = _changed(rng, copy)
        try:
            json.dumps(copy)
        except RecursionError:  # nested once too often for Python to write it
            copy = json.loads(before)
    return copy


def _changed(rng: Random, of: Any) -> Any:
    parent: Any = None
    key: Any = None
    at = of
    while isinstance(at, dict | list) and at and rng.random() < 0.85:
        parent, key = at, rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
        at = at[key]
    if parent is None:
        return value(rng, of)
    how = rng.randrange(8)
    if how < 5:
        parent[key] = value(rng, at)
    elif how == 5:
        del parent[key]
    elif isinstance(parent, dict):
        parent[rng.choice((text(rng), str(key) + "s", "schema"))] = at
    elif how == 6:
        parent.append(at)
    else:
        rng.shuffle(parent)
    return of


def written(rng: Random, of: Any) -> bytes:
    """The JSON value `of` as somebody might have written it: another encoding, a byte order mark, a key twice, a comma more."""
    text_ = json.dumps(of, indent=rng.choice((None, None, 1)), ensure_ascii=rng.random() < 0.7)
    how = rng.randrange(14)
    if how == 0:
        return text_.encode("utf-16" if rng.random() < 0.5 else "utf-32", "surrogatepass")
    if how == 1:
        return b"\xef\xbb\xbf" + text_.encode("utf-8", "surrogatepass")
    if how == 2:
        return text_.encode("latin-1", "replace")
    if how == 3:
        at = text_.find("{")
        return (text_[: at + 1] + '"schema": 1, "schema": 2, ' + text_[at + 1 :]).encode("utf-8", "surrogatepass")
    if how == 4:
        at = rng.randrange(len(text_) + 1)
        more = rng.choice(("/* x */", ",", "]", '"', "\\", "\\ud800", "NaN", "\x00"))
        return (text_[:at] + more + text_[at:]).encode("utf-8", "surrogatepass")
    return text_.encode("utf-8", "surrogatepass")


def raw(rng: Random, data: bytes) -> bytes:
    """`data` with bits flipped, parts cut out, doubled, overwritten, or its end gone."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
        if not out:
            return rng.randbytes(rng.randrange(64))
        at = rng.randrange(len(out))
        how = rng.randrange(9)
        if how < 3:
            out[at] ^= 1 << rng.randrange(8)
        elif how == 3:
            out[at] = rng.choice((0, 255, 127, 128, 34, 92, 123))
        elif how == 4:
            del out[at : len(out) if rng.random() < 0.3 else at + rng.randrange(1, 64)]
        elif how == 5:
            out[at:at] = out[at : at + rng.randrange(1, 256)]
        elif how == 6:
            out[at:at] = rng.randbytes(rng.randrange(1, 16))
        elif how == 7:
            end = min(at + rng.choice((4, 8, 100, 4096)), len(out))
            out[at:end] = bytes(end - at)
        else:
            end = min(at + 8, len(out))
            out[at:end] = rng.choice(HUGE).to_bytes(8, "big", signed=True)[: end - at]
    return bytes(out)


def packed(rng: Random, data: bytes) -> tuple[bytes, str]:
    """`data` compressed, whole or damaged, and the ending of its name, which may lie."""
    kind = rng.choice(("gz", "xz"))
    out = gzip.compress(data, 1, mtime=0) if kind == "gz" else lzma.compress(data, preset=0)
    how = rng.randrange(5)
    if how == 0:
        out = raw(rng, out)
    elif how == 1:
        out = out[: rng.randrange(len(out))]
    elif how == 2:
        out += rng.choice((b"\0" * 100, out, b"junk", rng.randbytes(40)))
    elif how == 3:
        out, kind = (gzip.compress(out, 1, mtime=0), "gz")
    return out, rng.choice((kind, kind, kind, "gz", "xz", "sqlite", "json"))
