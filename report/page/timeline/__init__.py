"""The timeline of the page: every operation of every trace on one axis, drawn so that it cannot lie.

    side.py        one trace, encoded: streams.py, host.py, idle.py, and sums.py where it is too large
    columns.py     integers as text: byte planes, deflate, base 85
    shell.html     what stands in the page; timeline.css, and the scripts that unpack, draw and listen

`section` is all that the page asks for. A picture is made of shares: a pixel's column is as high as the part of its time that
was busy, at every zoom, from exact sums. Gaps are what the operations leave; their sum is compared with the ledger's.

Any link of the page may set the view, with parts left out at will; times are ns from the trace's first operation:

    #timeline&trace=NAME&from=NS&to=NS&stage=PATH&kernel=NAME&find=TEXT
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ....analyze.result import Analysis
from ....traces.model import Trace
from ..base85 import decoder
from ..markup import Html, embedded_json
from ..templates import fill
from .side import MOST_CALLS, MOST_OPS, side_payload, vocabulary

HERE: Final = Path(__file__).parent

SCRIPTS: Final = (
    "codec",
    "intervals",
    "lane",
    "paint",
    "words",
    "model",
    "view",
    "search",
    "draw",
    "above",
    "details",
    "input",
    "start",
)
"""The parts of the script, in their order."""


@dataclass(frozen=True, slots=True)
class Section:
    """What the page places: `markup` in its body with the `data` behind it, `style` in its style sheet, `script` at its end (the
    policy needs its hash)."""

    markup: Html
    data: Html
    style: str
    script: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A trace with its analysis, the `name` it has on the page and the `key` that links call it by."""

    name: str
    key: str
    trace: Trace
    analysis: Analysis


def section(shown: Sequence[Shown], most_ops: int = MOST_OPS, most_calls: int = MOST_CALLS) -> Section | None:
    """The timeline of all that is `shown`; null where there is nothing to draw. Beyond `most_ops` operations or `most_calls`
    calls of all traces together, the page holds some of them and sums of the rest."""
    many = max(len(shown), 1)
    found = [
        side_payload(one.name, one.key, one.trace, one.analysis, most_ops // many, most_calls // many) for one in shown
    ]
    payloads = [Html(payload) for payload in found if payload is not None]
    if not payloads:
        return None
    data = fill("timeline.html", words=embedded_json(vocabulary()), payloads=payloads)
    script = "\n".join([decoder(), *(_file(f"{name}.js") for name in SCRIPTS)])
    markup = Html(_file("shell.html").strip())
    return Section(markup, data, _file("timeline.css"), wrapped(script))


def wrapped(script: str) -> str:
    """`script` in a scope of its own."""
    return f'"use strict";\n(() => {{\n{script}\n}})();\n'


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
