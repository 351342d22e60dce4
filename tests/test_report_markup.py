"""What a trace says never becomes markup, script, or something that hides."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.report.page.markup import Html, clip, embedded_json, escape, visible
from aisp_trace.report.page.templates import LONGEST, environment, sentence

ANY_TEXT = st.text(st.characters(categories=None))  # lone surrogates and controls included


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(markup: str) -> _Reader:
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return reader


@given(ANY_TEXT)
def test_any_text_stays_text(text: str) -> None:
    read = _read(environment().from_string('<b title="{{ text }}">{{ text }}</b>').render(text=text))
    assert read.tags == ["b"]
    assert read.text == visible(text)
    assert read.attributes == [("title", visible(text))]


@given(ANY_TEXT)
def test_any_text_can_be_written_and_is_printable(text: str) -> None:
    escape(text).encode("utf-8")
    assert visible(text).isprintable()


def test_what_hides_is_written_out() -> None:
    assert visible("a\x1b[31mb\u202ec\ud800\n") == "a\\x1b[31mb\\u202ec\\ud800\\n"


def test_html_passes_through_and_strings_do_not() -> None:
    children = ["<i>", Html("<b></b>"), 3, Html("<u></u>"), "&"]
    made = environment().from_string("{% for child in children %}{{ child }}{% endfor %}").render(children=children)
    assert made == "&lt;i&gt;<b></b>3<u></u>&amp;"


def test_clip_keeps_both_ends_of_a_long_name() -> None:
    name = "void gemm<" + "x" * 1_000_000 + ", 128>(float*)"
    short = clip(name)
    assert len(short) == 160 and short.startswith("void gemm<") and short.endswith(", 128>(float*)") and "…" in short
    assert clip("gemm") == "gemm"


@given(ANY_TEXT)
def test_embedded_json_survives_and_ends_no_script(text: str) -> None:
    made = embedded_json({"name": text})
    assert not set(made) & set("<>&\u2028\u2029")
    assert json.loads(made) == {"name": text}


def test_embedded_json_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="JSON"):
        embedded_json([math.nan])


def test_what_stands_between_backticks_in_a_sentence_is_code_and_still_escaped() -> None:
    assert sentence("see `aisp-trace check <RUN>`, and `--window all`") == (
        "see <code>aisp-trace check &lt;RUN&gt;</code>, and <code>--window all</code>"
    )
    assert sentence("one ` alone, <b>`x\u202e`</b>") == "one <code> alone, &lt;b&gt;</code>x\\u202e`&lt;/b&gt;"
    assert len(sentence("x" * 10**6)) <= LONGEST
