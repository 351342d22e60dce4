"""Numbers as people read them. The one place where nanoseconds become milliseconds and bytes become gigabytes.

Null is "–" unless the caller has a better word ("no copies"): it never becomes 0.
"""

from __future__ import annotations

from typing import Final

ABSENT: Final = "–"

_TIMES: Final = ((1_000_000_000_000, 1e9, "s"), (1_000_000, 1e6, "ms"), (1_000, 1e3, "µs"))
_SIZES: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))

_ENERGIES: Final = ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"))


def duration(ns: int | float | None) -> str:
    """``883.33 ms``. Four significant digits; below a microsecond whole nanoseconds; seconds from 1000 s on."""
    if ns is None:
        return ABSENT
    for least, unit, word in _TIMES:
        if abs(ns) >= least:
            return f"{significant(ns / unit)} {word}"
    return f"{ns:.0f} ns" if ns else "0"


def moment(ns: int) -> str:
    """An instant counted from the trace's first operation, exactly and as `--window` takes it: ``+6259.812406ms``."""
    whole, rest = divmod(abs(ns), 1_000_000)
    return f"{'-' if ns < 0 else '+'}{whole}.{rest:06d}".rstrip("0").rstrip(".") + "ms"


def nanoseconds(ns: int | None) -> str:
    """The exact figure: ``883,334,370 ns``."""
    return ABSENT if ns is None else f"{ns:,} ns"


def size(nbytes: int | None) -> str:
    """Bytes in decimal units, as bandwidths use them: ``805.3 MB``."""
    if nbytes is None:
        return ABSENT
    for unit, word in _SIZES:
        if abs(nbytes) >= unit:
            return f"{significant(nbytes / unit)} {word}"
    return f"{nbytes} B"


def rate(bytes_per_s: float | None) -> str:
    """``51.06 GB/s``."""
    return ABSENT if bytes_per_s is None else f"{significant(bytes_per_s / 1e9)} GB/s"


def joules(energy: float | None) -> str:
    """``93.08 mJ``; microjoules are the smallest unit."""
    if energy is None:
        return ABSENT
    scale, word = next(((s, w) for s, w in _ENERGIES if abs(energy) >= s), (1e-6, "µJ"))
    return f"{significant(energy / scale)} {word}"


def share(fraction: float | None, absent: str = ABSENT) -> str:
    """``84.5 %``; what is not quite all or nothing never rounds to it (``> 99.9 %``, ``< 0.1 %``)."""
    if fraction is None:
        return absent
    percent = 100 * fraction
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"


def significant(value: float) -> str:
    """Four significant digits without exponent: 11.39, 883.3, 51.06; thousands are grouped: 12,345."""
    size_ = abs(value)
    digits = 0 if size_ >= 1000 else 1 if size_ >= 100 else 2 if size_ >= 10 else 3
    return f"{value:,.{digits}f}"


def count(number: int | None, one: str, many: str | None = None) -> str:
    """``1 op``, ``2,391 ops``."""
    if number is None:
        return ABSENT
    return f"{number:,} {one if number == 1 else many or one + 's'}"
