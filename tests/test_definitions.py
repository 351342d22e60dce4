"""The figures of docs/definitions are what the analysis says of their traces today, and every page shows its own."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from aisp_trace.tests.builders.pages import DOCS
from aisp_trace.tests.definitions.drawing import Bar, Drawing
from aisp_trace.tests.definitions.figures import FIGURES, FOLDER
from aisp_trace.tests.definitions.timelines import US, pieces
from aisp_trace.tests.oracle.build import build, call, op, span

PICTURE = re.compile(r"!\[([^\]]+)\]\(([\w.]+)\)")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_what_the_analysis_says(name: str) -> None:
    kept = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert kept == FIGURES[name]().svg(), "draw it again: python -P scripts/definitions.py --write"


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_stands_alone(name: str) -> None:
    """It is well-formed, asks for nothing, and all of its text lies on the ground."""
    root = ElementTree.parse(FOLDER / f"{name}.svg").getroot()
    wide, high = float(root.attrib["width"]), float(root.attrib["height"])
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "title", "defs", "pattern", "rect", "g", "text", "line", "polyline"}
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        x, y, letters = float(text.attrib["x"]), float(text.attrib["y"]), len(text.text or "")
        room = 2 * min(x, wide - x) if text.attrib.get("text-anchor") else wide - x
        assert letters * 6.3 <= room and 0 < y < high, text.text


def test_every_page_shows_its_figure_with_words_for_it() -> None:
    shown: dict[str, tuple[str, str]] = {}
    for page in sorted(FOLDER.glob("*.md")):
        shown |= {file: (page.stem, words) for words, file in PICTURE.findall(page.read_text(encoding="utf-8"))}
    assert set(shown) == {f"{name}.svg" for name in FIGURES} == {file.name for file in FOLDER.glob("*.svg")}
    assert all(file == f"{page}.svg" and len(words) > 40 for file, (page, words) in shown.items())


def test_every_page_is_in_the_index() -> None:
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in FOLDER.glob("*.md")} - {"index.md"}
    assert set(re.findall(r"^\| \[[^\]]+\]\(([\w.]+)\) \|", index, re.MULTILINE)) == pages
    assert not (DOCS / "definitions.md").exists()


def test_a_bar_without_room_has_a_number_and_the_key_its_word() -> None:
    made = Drawing("words", 0, 100 * US)
    made.row("row", Bar(0, 90 * US, "wide"), Bar(90 * US, 92 * US, "launch_latency", "launch_latency"))
    svg = made.svg()
    assert svg.count(">1</text>") == 2 and ">launch_latency</text>" in svg


def test_pieces_that_an_instant_is_missing_between_are_an_error() -> None:
    """A page fault begins 40 us before its page, where the trace has no instant."""
    trace = build(
        ranges=[span("sum", -5 * US, 120 * US)],
        api=[call("cudaLaunchKernel", -4 * US, -2 * US, 1)],
        ops=[op("compute", 0, 10 * US, 1), op("migration", 100 * US, 110 * US)],
    )
    with pytest.raises(ValueError, match="unpack"):
        pieces(trace, 0, 110 * US)
    assert pieces(trace, 0, 110 * US, at=(60 * US,))
