"""One iteration in characters: `analyze --timeline`.

                0           200 us      400 us
GPU 0 NVIDIA H200
  stream 7      ▅███▂▁ ▁███████▆▂                54.1 %    height: share of the column's time
                HHCCCC CCCCCCCCDD                          letter: what fills most of it
  idle          ▃   ▆▇█▇       ▂▆                45.9 %
                q   hhhh       ss                          why the device waits
host
  main          [load ][compute-][store]
    CUDA calls  ▂▂▁▁ ▁▁     ▇██▇                 31.0 %
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, TextIO

from rich.cells import cell_len, set_cell_size

from ...analyze.result import Analysis
from ...analyze.words import duration, percent, shorten
from ...traces.model import Trace
from ..palette import MEANINGS
from .console import Painted, escape, heading, paint, say, say_wrapped, terminal_width
from .lanes import Band, Lane, Timeline, timeline
from .look import hue

BARS: Final = " ▁▂▃▄▅▆▇█"
DIGITS: Final = " 12345678"
"""Bars where the output's encoding has no blocks."""

FAINT, FAINT_PLAIN = "·", "."
"""A column that holds something, but is drawn empty."""

LABEL: Final = 14
SHARE: Final = 9
MOST_COLUMNS: Final = 400
TICK: Final = 10
"""The least columns between two ticks of the ruler."""

KIND_LETTERS: Final = {
    "compute": "C",
    "graph": "G",
    "comm": "N",
    "h2d": "H",
    "d2h": "D",
    "p2p": "P",
    "d2d": "W",
    "h2h": "O",
    "memset": "M",
    "migration": "U",
}
CAUSE_LETTERS: Final = {
    "graph_internal": "g",
    "dependency": "d",
    "queued": "q",
    "launch_latency": "t",
    "launch_api": "l",
    "lazy_load": "z",
    "copy_api": "c",
    "allocator": "a",
    "sync": "s",
    "module_load": "m",
    "page_fault": "f",
    "graph_build": "b",
    "profiler": "p",
    "driver_overhead": "v",
    "earlier_launch": "e",
    "other_api": "o",
    "waiting": "w",
    "host_code": "h",
    "tail": "x",
    "unknown": "u",
}
"""Capital letters work, small ones do not. No two are the same."""

LETTERS: Final = {**KIND_LETTERS, **CAUSE_LETTERS}

_STEPS: Final = (1, 2, 5)


def print_timeline(trace: Trace, analysis: Analysis) -> None:
    """Draw the typical iteration of `analysis`."""
    drawn = timeline(trace, analysis, min(max(terminal_width() - LABEL - SHARE, 1), MOST_COLUMNS))
    say()
    if drawn is None:
        say("timeline: nothing was recorded that could be drawn")
        return
    width = (drawn.end_ns - drawn.start_ns) / (len(drawn.bounds) - 1)
    heading(shorten(escape(f"timeline: {drawn.shown}"), terminal_width()))
    _ruler(drawn)
    blocks = shows_blocks(sys.stdout)
    for group in drawn.groups:
        heading(shorten(escape(group.title), terminal_width()))
        for row in group.rows:
            if isinstance(row, Band):
                _label(row.label, ["".join(_band(row))])
            else:
                share = f" {percent(row.busy_ns / (drawn.end_ns - drawn.start_ns)):>{SHARE - 1}}"
                _label(row.label, [*_bars(row, blocks), share])
                _label("", _letters(row))
    say()
    _legend(drawn, width, blocks)


def shows_blocks(stream: TextIO) -> bool:
    """Whether the encoding of `stream` has the characters of the bars."""
    try:
        (BARS + FAINT).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bars(lane: Lane, blocks: bool) -> str:
    """The bars of `lane`, a character a column; what holds something and is drawn empty has a dot."""
    characters, faint = (BARS, FAINT) if blocks else (DIGITS, FAINT_PLAIN)
    pairs = zip(lane.heights, lane.what, strict=True)
    return "".join(characters[h] if h or what is None else faint for h, what in pairs)


def _bars(lane: Lane, blocks: bool) -> Iterator[str | Painted]:
    return _painted(bars(lane, blocks), lane.what)


def _letters(lane: Lane) -> Iterator[str | Painted]:
    return _painted("".join(" " if what is None else LETTERS.get(what, "?") for what in lane.what), lane.what)


def _painted(text: str, what: Sequence[str | None]) -> Iterator[str | Painted]:
    """`text` in the colours of what fills its columns, run by run."""
    for name, run in groupby(zip(text, what, strict=True), key=lambda pair: pair[1]):
        part = "".join(character for character, _ in run)
        yield part if name is None else Painted(part, hue(name))


def _label(label: str, parts: Sequence[str | Painted] | Iterator[str | Painted]) -> None:
    paint([set_cell_size(shorten(f"  {escape(label)}", LABEL - 1), LABEL), *parts])


def _band(band: Band) -> Iterator[str]:
    """``[load--][compute]st``: each run of columns of one range with as much of its name as fits."""
    for one, run in groupby(band.ranges):
        columns = len(list(run))
        if one is None:
            yield " " * columns
        elif columns < 3:
            first = escape(one[1])[:columns]
            yield first if cell_len(first) == columns else "|" * columns
        else:
            name = shorten(escape(one[1]), columns - 2) if columns > 6 else set_cell_size(escape(one[1]), columns - 2)
            name = name.rstrip()
            yield f"[{name}{'-' * (columns - 2 - cell_len(name))}]"


def _ruler(drawn: Timeline) -> None:
    columns, span = len(drawn.bounds) - 1, drawn.end_ns - drawn.start_ns
    least = TICK * span / columns
    power = 1
    while all(step * power < least for step in _STEPS):
        power *= 10
    step = next(step * power for step in _STEPS if step * power >= least)
    line = [" "] * columns
    for time in range(0, span, step):
        at = time * columns // span
        text = f"|{_tick(time)}"
        if at + len(text) <= columns:
            line[at : at + len(text)] = text
    _label("", ["".join(line)])


def _tick(ns: int) -> str:
    """``0``, ``200us``: no more digits than a round number needs."""
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns >= scale:
            return f"{ns / scale:g}{unit}"
    return f"{ns}ns" if ns else "0"


def _legend(drawn: Timeline, width: float, blocks: bool) -> None:
    lanes = [row for group in drawn.groups for row in group.rows if isinstance(row, Lane)]
    used = {what for lane in lanes for what in lane.what if what is not None}
    for letters, lead in ((KIND_LETTERS, "work: "), (CAUSE_LETTERS, "idle: ")):
        named = [f"{letter} {name} ({MEANINGS[name]})" for name, letter in letters.items() if name in used]
        if named:
            say_wrapped("; ".join(named), lead, "      ")
    bar = (
        f"bar: its busy share, {FAINT} under an eighth" if blocks else f"digit: eighths of it busy, {FAINT_PLAIN} less"
    )
    bands = any(isinstance(row, Band) for group in drawn.groups for row in group.rows)
    say_wrapped(
        f"a column is {duration(width)}; {bar}; letter: what fills most of it; at the end: the lane's exact share"
        f"{'; [name]: a stage, its first letters where it is short' if bands else ''}",
        "read: ",
        "      ",
    )
    for note in drawn.notes:
        say_wrapped(note)
