"""A result in a notebook: what the terminal prints of it, as HTML.

The terminal's own functions do the work. What they print is taken before it is laid out in columns of characters (`Writer`), so
both say the same and show the same figures. There is no style sheet, script or colour: notebooks bring their own, and drop ours
where they are not trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ..analyze.headroom.predicted import Predicted
from ..analyze.result import Analysis
from ..expectations.comparing.compare import Compared
from ..expectations.judging.judged import Judged
from .page.markup import Html, clip, escape
from .terminal.analysis import print_overview
from .terminal.comparison import print_compared
from .terminal.console import Column, writing_to
from .terminal.headroom import print_predicted
from .terminal.verdicts import print_judged

LONGEST: Final = 1200
"""Characters of a paragraph; the longest of ours have half as many."""

TERMS: Final = 12
"""Rows of terms and kernels of a comparison, as ``aisp-trace compare`` shows."""

PRINTED: Final[Mapping[type, Callable[[Any], None]]] = {
    Analysis: print_overview,
    Compared: lambda found: print_compared(found, TERMS),
    Judged: print_judged,
    Predicted: print_predicted,
}
"""What prints each kind of result."""


def html(result: Any) -> str:
    """`result` as a fragment of HTML. Raises `KeyError` for what is none of the kinds in `PRINTED`."""
    writer = _Fragment()
    with writing_to(writer):
        PRINTED[type(result)](result)
    return writer.finished()


class _Fragment:
    """Collects paragraphs and tables; plain lines that follow each other are one block."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.block: list[str] = []

    def line(self, text: str, bold: bool) -> None:
        if text and not bold:
            self.block.append(escape(clip(text, LONGEST)))
            return
        self._end_block()
        if text:
            self._paragraph(f"<b>{escape(clip(text, LONGEST))}</b>")

    def sentence(self, text: str) -> None:
        self._end_block()
        self._paragraph(escape(clip(text, LONGEST)))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        self._end_block()
        align = [f' style="text-align:{column.align}"' for column in columns]
        head = "".join(f"<th{how}>{escape(c.title)}</th>" for c, how in zip(columns, align, strict=True))
        body = "\n".join(
            f"<tr>{''.join(f'<td{how}>{_cell(text)}</td>' for text, how in zip(row, align, strict=True))}</tr>"
            for row in rows
        )
        self.parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>")

    def finished(self) -> str:
        self._end_block()
        return Html('<div class="aisp-trace">\n{}\n</div>'.format("\n".join(self.parts)))

    def _paragraph(self, inner: str) -> None:
        self.parts.append(f'<p style="margin:0.3em 0">{inner}</p>')

    def _end_block(self) -> None:
        if self.block:
            self.parts.append('<pre style="margin:0.3em 0">{}</pre>'.format("\n".join(self.block)))
        self.block = []


def _cell(text: str) -> str:
    return "<br/>".join(escape(clip(line)) for line in text.split("\n"))
