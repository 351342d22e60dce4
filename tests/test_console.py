"""Printing: nothing foreign reaches the terminal raw, tables fit 80 columns, and figures are never cut."""

from __future__ import annotations

import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len as display_width

from aisp_trace.analyze.words import duration, ms, percent, rate, shorten, size
from aisp_trace.report.documents.text import json_text
from aisp_trace.report.terminal.console import Column, escape, print_json, print_table, say, say_lines, table, warn

LOOK = [Column("stage", "left", shrink=True), Column("ms"), Column("note", "left")]


def test_a_table_aligns_and_shows_null_as_a_dash() -> None:
    assert table(LOOK, [("decode", ms(1_234_567_890), "x"), ("h2d", None, "")]).splitlines() == [
        "stage          ms  note",
        "decode  1,234.568  x",
        "h2d             -",
    ]


def test_a_table_without_rows_is_its_titles() -> None:
    assert table(LOOK, []) == "stage  ms  note"


def test_long_names_lose_their_middle_and_figures_stay_whole() -> None:
    text = table(LOOK, [("a" * 300 + "END", "1" * 30, "2" * 20)], width=80)
    row = text.splitlines()[1]
    assert display_width(row) == 80
    assert row == "a" * 13 + "…" + "a" * 9 + "END" + "  " + "1" * 30 + "  " + "2" * 20


def test_a_table_whose_figures_alone_are_too_wide_stays_too_wide() -> None:
    row = table(
        [Column("name", "left", shrink=True), Column("n")], [("abcdefghijkl", "9" * 90)], width=80
    ).splitlines()[1]
    assert row == "abcd…jkl" + "  " + "9" * 90


def test_two_long_columns_share_the_room() -> None:
    columns = [Column("a", "left", shrink=True), Column("b", "left", shrink=True)]
    row = table(columns, [("x" * 100, "y" * 60)], width=42).splitlines()[1]
    widths = [display_width(cell) for cell in row.split("  ")]
    assert sum(widths) == 40 and abs(widths[0] - widths[1]) <= 2


def test_wide_characters_count_twice() -> None:
    lines = table([Column("n", "left"), Column("x")], [("大大", 1), ("ab", 22)]).splitlines()
    assert [display_width(line) for line in lines] == [8, 8, 8]


def test_markup_and_emoji_of_rich_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(LOOK, [("[red]x[/red]", "[/]", ":smile: http://a [link=b]")])
    assert capsys.readouterr().out.splitlines()[1] == "[red]x[/red]  [/]  :smile: http://a [link=b]"


def test_a_row_is_no_command_to_a_ci_runner(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(LOOK, [("::error::x", "##[section]", "")])
    assert capsys.readouterr().out.splitlines()[1] == r"\x3a:error::x  \x23#[section]"


@pytest.mark.parametrize(("columns", "widest"), [(None, 80), ("60", 60), ("200", 200), ("10", 40), ("x", 80)])
def test_columns_is_honoured(
    columns: str | None, widest: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    print_table(LOOK, [("n" * 500, "1", "2222")])
    assert [display_width(line) for line in capsys.readouterr().out.splitlines()][1] == widest


def test_only_a_terminal_gets_bold_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for stream, bold in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stdout", stream)
        print_table(LOOK, [("a\x1b[31m", "1", "2")])
        assert ("\x1b[1m" in stream.getvalue()) is bold
        assert "a\\x1b[31m" in stream.getvalue()


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, the table 3 columns"):
        table(LOOK, [("x",)])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größe 大", "größe 大"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\u202eevil", "\\u202eevil"),  # right-to-left override
        ("\x9b2J", "\\x9b2J"),  # the one-byte form of ESC [
        ("\ud800", "\\ud800"),  # a lone surrogate, from an undecodable file name
        ("\U000e0041", "\\U000e0041"),  # an invisible tag character
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(st.text())
def test_nothing_a_terminal_obeys_survives(text: str) -> None:
    assert {unicodedata.category(c) for c in escape(text)}.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})


@given(st.text(), st.integers(1, 40))
def test_shorten_fits(text: str, width: int) -> None:
    short = shorten(text, width)
    assert display_width(short) <= width
    assert short == text or "…" in short


def test_say_and_warn_are_one_line_and_say_lines_keeps_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\ntwo\x07")
    say_lines("one\ntwo\x07")
    warn("three\nfour")
    captured = capsys.readouterr()
    assert captured.out == "one\\ntwo\\x07\none\ntwo\\x07\n"
    assert captured.err == "aisp-trace: three\\nfour\n"


def test_json_is_ascii_and_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "\x1b大\u202e"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {"name": "\x1b大\u202e"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"ratio": float("nan")})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_json_in_lines_says_what_the_library_says(value: object) -> None:
    text = json_text(value)
    assert json.loads(text) == json.loads(json.dumps(value))
    assert text.isascii()


def test_a_row_of_a_table_takes_one_line() -> None:
    document = {"schema": "x", "rows": [{"a": 1, "b": None}, {"a": 2, "b": [1, 2]}], "none": []}
    assert json_text(document).splitlines() == [
        "{",
        ' "schema": "x",',
        ' "rows": [',
        '  {"a": 1, "b": null},',
        "  {",
        '   "a": 2,',
        '   "b": [1, 2]',
        "  }",
        " ],",
        ' "none": []',
        "}",
    ]


@pytest.mark.parametrize("document", [{"rows": [{"x": float("nan")}]}, {"rows": [[float("inf")], 1]}, [[], {1}]])
def test_what_json_does_not_have_is_refused_at_any_depth(document: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        json_text(document)


def test_figures() -> None:
    assert [ms(None), ms(1), ms(-2_500_000), ms(12_345_678, 1)] == ["-", "0.000", "-2.500", "12.3"]
    shown = [duration(ns) for ns in (None, 0, 640, 12_300, 4_570_000, 1_200_000_000, -45_600_000)]
    assert shown == ["-", "0 ns", "640 ns", "12.3 us", "4.57 ms", "1.20 s", "-45.6 ms"]
    assert [size(n) for n in (None, 12, 4096, 805_306_368)] == ["-", "12 B", "4.10 kB", "805 MB"]
    assert [rate(None), rate(51.06e9)] == ["-", "51.06"]
    assert [percent(None), percent(0.845), percent(1)] == ["-", "84.5 %", "100.0 %"]
