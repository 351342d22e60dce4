"""Names as a page holds them: each once, clipped, its unseen characters made visible. A name of 4 MB costs 160 characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from zlib import crc32

import numpy as np
import polars as pl

from ....analyze.intervals import Ints
from ....analyze.naming.kernels import short_name
from ....traces.model import distinct_values
from ..markup import LONGEST_NAME, clip, visible

MOST: Final = 20_000
"""Different names of one kind; the others, those used least, share one. A trace of real work has a few hundred."""

LONGEST_CPP: Final = 20_000
"""Characters of a name that is still read as C++."""


class Names:
    """Words by their number, in the order in which they were asked for; at most `MOST` of each column."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.short: dict[int, str] = {}
        self._known: dict[tuple[int, int, str], int] = {}
        self._shown: set[str] = set()

    def number(self, word: str) -> int:
        """The number of `word`, clipped. Long ones that read the same when clipped end in a checksum."""
        shown = visible(clip(word)) if word else "(unnamed)"
        mark = crc32(word.encode(errors="replace")) if len(word) > LONGEST_NAME else 0
        key = (len(word), mark, shown)
        if key not in self._known:
            self._known[key] = len(self.words)
            self.words.append(f"{shown} ·{mark:08x}" if shown in self._shown else shown)
            self._shown.add(shown)
        return self._known[key]

    def of(self, column: pl.Series, absent: Mapping[int, str] | None = None) -> Ints:
        """The number of each row's word of a dictionary-encoded `column`. A null has code -1, which `absent` may name."""
        codes = column.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        return self.of_codes(codes, distinct_values(column), absent)

    def kernels(self, column: pl.Series) -> Ints:
        """As `of`; what of them is called otherwise in short comes into `short`."""
        numbers, words = self.of(column), distinct_values(column)
        codes = column.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        used, at = np.unique(codes, return_index=True)
        for code, number in zip(used.tolist(), numbers[at].tolist(), strict=True):
            if code >= 0 and number not in self.short and len(words[code]) <= LONGEST_CPP:
                short = visible(clip(short_name(words[code])))
                if short != self.words[number]:
                    self.short[number] = short
        return numbers

    def of_codes(self, codes: Ints, words: Sequence[str], special: Mapping[int, str] | None = None) -> Ints:
        """The number of each code's word; negative codes are `special`."""
        used, row, count = np.unique(codes, return_inverse=True, return_counts=True)
        numbers = np.zeros(len(used), np.int64)
        kept = np.argsort(-count, kind="stable")[:MOST]
        for i in sorted(kept.tolist()):
            code = int(used[i])
            numbers[i] = self.number(words[code] if code >= 0 else (special or {}).get(code, ""))
        if len(used) > MOST:
            rest = np.ones(len(used), bool)
            rest[kept] = False
            numbers[rest] = self.number(f"(one of {int(rest.sum()):,} rarer names)")
        return np.asarray(numbers[row.reshape(-1)])
