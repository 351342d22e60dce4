"""Compiled versions of what `columns` does with every row of a large table."""

# mypy: allow-untyped-defs

from __future__ import annotations

from .compiled import NOTHING, Unit, array

UNIT = Unit(__name__, __file__)

_AT = array("int64")


@UNIT.primitive(
    NOTHING,
    (array("int64"), array("int64"), _AT, array("int64", writable=True)),
    (array("int32"), array("int32"), _AT, array("int32", writable=True)),
)
def interleave(large, small, at, out):
    """Fill `out` with `small` at the ascending places `at`, and with `large` in turn elsewhere."""
    row = 0
    for k in range(len(small)):
        for to in range(row, at[k]):
            out[to] = large[to - k]
        out[at[k]] = small[k]
        row = at[k] + 1
    for to in range(row, len(out)):
        out[to] = large[to - len(small)]


UNIT.load()
