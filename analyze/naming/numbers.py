"""Which digits of a range's name are a number that tells instances apart, and which are part of a word.

    step 12              step #               a number on its own
    ProfilerStep#3       ProfilerStep#
    layer.11.attn        layer.#.attn
    aten::mm, seq = 12, op_id = 3             aten::mm    (as PyTorch's emit_nvtx writes it)
    layer3  block[12]    layer#  block[#]     letters, then a number
    lr=1e-05  t 0.5      lr=#  t #            a fraction after a space, = : ( [ { , | < @ ; or a slash, with its sign
    0x7f3a10 3fa9c2d1    # #                  addresses, UUIDs and hexadecimal ids of eight digits or more

What stays, because another number would be another thing:

    h2d  conv2d  int8_gemm  e4m3  16MB  1.5ms    digits within a word, or before letters
    4096x4096  64 KiB  [[8, 16], [16]]           sizes: also lists in brackets, or after size(s) or shape(s)
    fp16  int8  float32  sm90                    types and architectures (`KEPT`)
    L2  v2  q8  H100                             one letter and a number
    aten::log2  MulBackward0                     operators, whose number is part of their name

The rule looks at characters alone, never at how large a number is, so it is the same for every numbering.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import polars as pl

from ..intervals import Ints

NUMBER: Final = "#"
"""Stands for a number that tells instances of one stage apart."""

KEPT: Final = frozenset(
    [
        "fp",
        "bf",
        "tf",
        "nf",
        "hf",
        "mxfp",
        "nvfp",
        "mxint",
        "float",
        "bfloat",
        "half",
        "double",
        "complex",
        "int",
        "uint",
        "qint",
        "quint",
        "sm",
    ]
)
"""Letters (in lower case) whose number is part of the word: numeric types and GPU architectures."""

LONGEST: Final = 4096
"""Characters of a name that is looked at; longer ones, which no program numbers, keep theirs."""

_APART: Final = r"(?<![^\W_])"  # no letter or digit before
_ENDS: Final = r"(?![^\W_])"  # and none after
_AFTER: Final = r"(?:(?<=[\s=:(\[{,|<@;/])|^)"  # where a number may have a sign or a fraction

_PARTS: Final = re.compile(
    # What stays as it is.
    r"(?P<stays>(?<![^\W_])(?:size|shape)s?\s*[=:]?\s*[\[(][\d\s,;*x\[\]()]*[\])]"
    r"|\[[\[\s]*\d+\s*,[\d\s,\[\]]*\]|\[\[[\d\s,\[\]]*\]"
    rf"|{_APART}\d+(?:\s?[x×]\s?\d+)+{_ENDS}"
    rf"|{_APART}\d+(?:\.\d+)?\s?(?:[kKMGT]i?B|[Bb]ytes?){_ENDS}"
    rf"|{_APART}\d+(?:\.\d+){{1,4}}[^\W\d_]+"
    rf"|{_APART}[^\W\d_]\d+(?:\.\d+){{1,4}}{_ENDS})"
    # What torch.autograd.profiler.emit_nvtx appends to an operator's name.
    r"|(?P<gone>, (?:seq|op_id) = \d+(?!\w)|, input_op_ids = \[[\d\s,()\[\]-]*\])"
    # An operator or function: only words of digits alone are numbers in it.
    r"|::(?P<operator>\w+)"
    # Addresses, UUIDs, hexadecimal ids.
    rf"|(?P<id>{_APART}(?:0[xX][0-9a-fA-F]+"
    r"|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    rf"|(?![a-fA-F]{{3,}}\d+{_ENDS})(?=[a-fA-F]*\d)(?=\d*[a-fA-F])(?:[0-9a-f]{{8,}}|[0-9A-F]{{8,}})){_ENDS})"
    # Numbers: with sign or fraction, behind #, alone.
    rf"|(?P<number>{_AFTER}[-+]?(?:\d+\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\d+)(?!\w|\.\d)"
    rf"|#\d+{_ENDS}|{_APART}\d+{_ENDS})"
    # Letters, then a number.
    rf"|(?P<word>{_APART}(?P<letters>[^\W\d_]+)\d+{_ENDS})",
    flags=re.IGNORECASE,
)

_DIGITS: Final = re.compile(rf"{_APART}\d+{_ENDS}")


FEW: Final = 32
"""Up to so many names that are alike are looked at one by one."""


def shape(name: str) -> str:
    """`name` with each number that tells instances apart replaced by `NUMBER`; a shape is its own shape."""
    pieces, begun = [], 0
    for start, end, instead in _numbers(name):
        pieces += [name[begun:start], instead]
        begun = end
    return "".join([*pieces, name[begun:]])


def shapes(names: Sequence[str]) -> tuple[Ints, list[str]]:
    """(the shape of each of `names`, as an index; the distinct shapes).

    The rule does not read the values of digits, so of names that differ in nothing else one is looked at: where it has
    numbers, all have.
    """
    given = pl.Series("name", names, dtype=pl.String)
    blank = given.str.replace_all("[1-9]", "0").rank("dense").to_numpy()
    order = np.argsort(blank, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(blank[order])) + 1) if len(names) else []
    which = np.empty(len(names), np.int64)
    known: dict[str, int] = {}
    for rows in groups:
        if len(rows) <= FEW:
            for row in rows.tolist():
                which[row] = known.setdefault(shape(names[row]), len(known))
            continue
        found = _shapes_alike(given.gather(rows))
        distinct = found.unique(maintain_order=True)
        place = np.array([known.setdefault(one, len(known)) for one in distinct.to_list()])
        which[rows] = place[found.cast(pl.Enum(distinct)).to_physical().to_numpy()]
    return which, list(known)


def _shapes_alike(names: pl.Series) -> pl.Series:
    """The shapes of `names`, which differ in the values of digits alone."""
    pieces: list[pl.Expr] = []
    begun = 0
    for start, end, instead in _numbers(names[0]):
        pieces += [pl.col("name").str.slice(begun, start - begun), pl.lit(instead)]
        begun = end
    pieces.append(pl.col("name").str.slice(begun))
    return names.to_frame("name").select(pl.concat_str(pieces).alias("name")).to_series()


def _numbers(name: str) -> Iterator[tuple[int, int, str]]:
    """Where the numbers of `name` begin and end, and what stands for each."""
    if len(name) > LONGEST:
        return
    for found in _PARTS.finditer(name):
        if found["number"] is not None or found["id"] is not None:
            yield *found.span(), NUMBER
        elif found["gone"] is not None:
            yield *found.span(), ""
        elif found["operator"] is not None:
            for part in _DIGITS.finditer(found["operator"]):
                yield found.start("operator") + part.start(), found.start("operator") + part.end(), NUMBER
        elif found["letters"] is not None and _counts(found["letters"]):
            yield found.end("letters"), found.end(), NUMBER


def _counts(letters: str) -> bool:
    """Whether a number behind `letters` counts instances of them."""
    return len(letters) > 1 and letters.lower() not in KEPT and not letters.endswith("Backward")
