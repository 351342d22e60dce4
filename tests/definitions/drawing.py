"""A timeline as SVG: rows of bars over one axis of time, lines of text below.

Dark ink on a ground of its own, because an ``<img>`` inherits neither the page's colours nor its dark mode. No script, style
sheet or font is asked for, so every viewer shows the same. Times are nanoseconds; the axis is drawn in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Final

from aisp_trace.report.palette import INK, QUIET, colour, is_idle

LEFT: Final = 170
"""Pixels for the rows' names."""
WIDE: Final = 650
"""Pixels for the axis of time."""
RIGHT: Final = 36
"""Pixels behind the axis, for half of its last word."""
HIGH: Final = 22
"""Pixels of a bar; a row has 8 more."""
LETTER: Final = 6.3
"""Pixels of a letter at 11 px: wide enough for the sans-serif fonts of common systems."""
GROUND: Final = "#fbfcfc"
STAGE: Final = "#dfe5ea"
CALL: Final = "#f1e3c4"
MARK: Final = "#bfe3cf"


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that lasted. `fill` is a kind of work, a cause of idle time, ``stage``, ``call`` or ``mark``."""

    start: float
    end: float
    text: str = ""
    fill: str = "stage"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the drawing. `curve` is a step line instead of bars: (time, share of the row's height)."""

    name: str
    bars: tuple[Bar, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()


@dataclass(slots=True)
class Drawing:
    """Rows between `low` and `high` ns. `says` is read aloud, and shown where pictures are not."""

    says: str
    low: float
    high: float
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: list[tuple[float, str]] = field(default_factory=list)

    def row(self, name: str, *bars: Bar) -> None:
        """One more row below the others."""
        self.rows.append(Row(name, bars))

    def curve(self, name: str, *points: tuple[float, float]) -> None:
        """One more row with a step line."""
        self.rows.append(Row(name, curve=points))

    def note(self, text: str) -> None:
        """A line of text below the rows."""
        self.notes.append(text)

    def line(self, at: float, text: str = "") -> None:
        """An instant, dashed through all rows, with a word at its top."""
        self.lines.append((at, text))

    def svg(self) -> str:
        """The whole file."""
        top = 30 if self.lines else 12
        axis = top + len(self.rows) * (HIGH + 8)
        key = self._key(axis + 38 + 18 * len(self.notes))
        height = axis + 30 + 18 * (len(self.notes) + bool(key))
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDE + RIGHT} {height}" '
            f'width="{LEFT + WIDE + RIGHT}" height="{height}" role="img" font-family="sans-serif" font-size="11">',
            f"<title>{escape(self.says)}</title>",
            '<defs><pattern id="idle" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
            '<rect width="2" height="6" fill="#000000" fill-opacity="0.16"/></pattern></defs>',
            f'<rect width="100%" height="100%" rx="6" fill="{GROUND}" stroke="{STAGE}"/>',
        ]
        for at, text in self.lines:
            parts.append(
                _line(self._x(at), 20, self._x(at), axis, dashed=True) + _text(self._x(at), 14, text, middle=True)
            )
        for i, row in enumerate(self.rows):
            y = top + i * (HIGH + 8)
            parts.append(_text(12, y + 15, row.name))
            parts += [self._bar(bar, y, where) for bar, where in self._placed(row)]
            parts += self._steps(row.curve, y) if row.curve else []
        parts += self._axis(axis)
        parts += [_text(12, axis + 38 + 18 * i, note) for i, note in enumerate(self.notes)]
        return "\n".join([*parts, *key, "</svg>\n"])

    def _x(self, at: float) -> float:
        return LEFT + (at - self.low) / (self.high - self.low) * WIDE

    def _placed(self, row: Row) -> list[tuple[Bar, str]]:
        """Each bar, and where its text goes: ``in`` it, ``after`` it, or into the key below."""
        placed = []
        starts = [bar.start for bar in row.bars] + [self.high]
        for bar, after in zip(row.bars, starts[1:], strict=True):
            long = len(bar.text) * LETTER + 4
            inside = long <= self._x(bar.end) - self._x(bar.start)
            placed.append((bar, "in" if inside else "after" if long <= self._x(after) - self._x(bar.end) else "key"))
        return placed

    def _numbers(self) -> dict[str, tuple[int, str]]:
        """The texts that some bar has no room for: the number that stands in the bar, and its fill."""
        found: dict[str, tuple[int, str]] = {}
        for bar, where in (one for row in self.rows for one in self._placed(row)):
            if where == "key" and bar.text and bar.text not in found:
                found[bar.text] = len(found) + 1, bar.fill
        return found

    def _key(self, y: float) -> list[str]:
        parts, x = [], 12.0
        for text, (number, fill) in self._numbers().items():
            parts += [_box(x, y - 12, 14, 14, fill), _inside(x + 7, y, str(number), fill), _text(x + 19, y, text)]
            x += 19 + len(text) * LETTER + 14
        return parts

    def _bar(self, bar: Bar, y: float, where: str) -> str:
        x, width = self._x(bar.start), self._x(bar.end) - self._x(bar.start)
        drawn = _box(x, y, width, HIGH, bar.fill)
        if where == "after":
            drawn += _text(x + width + 3, y + 15, bar.text)
        elif bar.text:
            text = bar.text if where == "in" else str(self._numbers()[bar.text][0])
            drawn += _inside(x + width / 2, y + 15, text, bar.fill)
        return f"<g><title>{escape(bar.text)}</title>{drawn}</g>"

    def _steps(self, points: tuple[tuple[float, float], ...], y: float) -> list[str]:
        bottom, path, last = y + HIGH, [], 0.0
        for at, share in points:
            x = self._x(at)
            path += [f"{x:.1f},{bottom - last * HIGH:.1f}", f"{x:.1f},{bottom - share * HIGH:.1f}"]
            last = share
        path.append(f"{self._x(self.high):.1f},{bottom - last * HIGH:.1f}")
        return [f'<polyline points="{" ".join(path)}" fill="none" stroke="{INK.light}" stroke-width="1.5"/>']

    def _axis(self, y: float) -> list[str]:
        step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if (self.high - self.low) / 1000 / s <= 12)
        first = -int(-self.low // (step * 1000))
        ticks = [i * step * 1000 for i in range(first, int(self.high // (step * 1000)) + 1)]
        shown = [_line(LEFT, y, LEFT + WIDE, y)]
        for at in ticks:
            last = " us" if at == ticks[-1] else ""
            shown.append(
                _line(self._x(at), y, self._x(at), y + 4)
                + _text(self._x(at), y + 16, f"{at // 1000}{last}", middle=True, fill=QUIET.light)
            )
        return shown


def _paint(fill: str) -> str:
    return {"stage": STAGE, "call": CALL, "mark": MARK}.get(fill) or colour(fill).light


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    box = f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" '
    hatched = f'{box}fill="url(#idle)"/>' if is_idle(fill) else ""
    return f'{box}fill="{_paint(fill)}" stroke="{GROUND}"/>{hatched}'


def _inside(x: float, y: float, text: str, fill: str) -> str:
    return _text(x, y, text, middle=True, fill="#ffffff" if _dark(_paint(fill)) else INK.light)


def _dark(fill: str) -> bool:
    red, green, blue = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def _text(x: float, y: float, text: str, *, middle: bool = False, fill: str = INK.light) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{anchor} fill="{fill}">{escape(text)}</text>'


def _line(x: float, y: float, x2: float, y2: float, *, dashed: bool = False) -> str:
    stroke = f'stroke="{QUIET.light}"' + (' stroke-dasharray="3 3"' if dashed else "")
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {stroke}/>'
