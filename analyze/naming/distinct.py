"""Short forms of names that stay as different as the names are.

at::native::vectorized_elementwise_kernel<4, add>      vectorized_elementwise_kernel [add]
at::native::vectorized_elementwise_kernel<4, mul>      vectorized_elementwise_kernel [mul]

model.decoder.layers.self_attention.query.weight       model.dec…query.weight        where 22 columns are left
model.decoder.layers.self_attention.value.weight       model.dec…value.weight
request of the first customer of the day               request…first…day             what differs is kept
request of the other customer of the day               request…other…day
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from rich.cells import cell_len

from ..words import shorten

LONGEST_DIFFERENCE: Final = 48
"""Characters of what tells two names apart; a difference that takes more is no help to a reader."""

_TOKEN: Final = re.compile(r"\w+|[^\w\s]")


def told_apart(short: Mapping[str, str], spelled: Callable[[str], str]) -> dict[str, str]:
    """`short` names by full name, those of equal short names followed by what tells the full ones (as `spelled`) apart, or,
    where that is too long or nothing, by a number in the order of the full names.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(short):
        groups.setdefault(short[name], []).append(name)
    out: dict[str, str] = {}
    for text, names in groups.items():
        if len(names) == 1:
            out[names[0]] = text
            continue
        for name, difference in zip(names, _differences([spelled(name) for name in names]), strict=True):
            out[name] = f"{text} [{difference}]" if 0 < len(difference) <= LONGEST_DIFFERENCE else text
    return _numbered(out)


def fitted(texts: Iterable[str], width: int) -> dict[str, str]:
    """Each of `texts` in at most `width` columns (at least 8) of a terminal, different ones differently: the middle gives way,
    unless what tells it from others lies there.
    """
    distinct = list(dict.fromkeys(texts))
    out = {text: shorten(text, width) for text in distinct}
    for names in _alike(out):
        for name, core in zip(names, _cores(names), strict=True):
            out[name] = _around(name, core, width)
    taken = set(out.values())
    for names in _alike(out):
        number = 1
        for name in sorted(names)[1:]:
            while (text := _tagged(name, number := number + 1, width)) in taken:
                pass
            taken.add(text)
            out[name] = text
    return out


def _tagged(name: str, number: int, width: int) -> str:
    """`name` in at most `width` columns, a number at its end: names of another group may have the same beginning and end."""
    tag = f"~{number}"
    return shorten(name, max(width - len(tag), 1)) + tag


def _alike(short: Mapping[str, str]) -> list[list[str]]:
    """The names that share a short form, group by group."""
    groups: dict[str, list[str]] = {}
    for name, text in short.items():
        groups.setdefault(text, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _numbered(short: dict[str, str]) -> dict[str, str]:
    taken = set(short.values())
    for names in _alike(short):
        number = 1
        for name in sorted(names)[1:]:
            while (text := f"{short[name]} ({(number := number + 1)})") in taken:
                pass
            taken.add(text)
            short[name] = text
    return short


def _differences(spelled: Sequence[str]) -> list[str]:
    """What each of some texts has that not all have: its words at the places where they differ, else from the first to the
    last of these."""
    words = [_TOKEN.findall(text) for text in spelled]
    if len({len(found) for found in words}) == 1:
        places = [i for i, column in enumerate(zip(*words, strict=True)) if len(set(column)) > 1]
        return [", ".join(found[i] for i in places) for found in words]
    return ["".join(found[start:end]) for found, (start, end) in zip(words, _cores(words), strict=True)]


def _cores(names: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Where in each name that part lies which not all have: from the first to the last character (or word) that differs."""
    start = _alike_at_first(names)
    end = _alike_at_first([name[start:][::-1] for name in names])
    return [(start, len(name) - end) for name in names]


def _alike_at_first(names: Sequence[Sequence[str]]) -> int:
    """How many characters (or words) all begin with."""
    for place, column in enumerate(zip(*names, strict=False)):
        if len(set(column)) > 1:
            return place
    return min(map(len, names))


def _around(name: str, core: tuple[int, int], width: int) -> str:
    """`name` cut to `width` columns with the middle of its `core` kept, and its ends as far as there is room."""
    start, end = core
    start = max(0, start - 1)  # a character more, so that a word is not cut off where it begins to differ
    middle = shorten(name[start:end], max(width - 2, 1))
    room = max(width - cell_len(middle) - 2, 0)
    head, tail = name[:start][: room - room // 2], name[end:]
    tail = tail[max(len(tail) - room // 2, 0) :]
    before = "…" if len(head) < start else ""
    after = "…" if len(tail) < len(name) - end else ""
    text = f"{head}{before}{middle}{after}{tail}"
    return text if cell_len(text) <= width else shorten(text, width)
