"""The timeline in characters does not lie: a lane's bars sum to the share of time it was busy, computed here another way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.intervals import cover
from aisp_trace.analyze.result import CAUSES
from aisp_trace.analyze.sources import Asked, find_recorded
from aisp_trace.cli import main as cli
from aisp_trace.report.terminal.cells import FULL, busy, edges, eighths, fullest
from aisp_trace.report.terminal.lanes import Band, Lane, Timeline, timeline
from aisp_trace.report.terminal.timeline import (
    BARS,
    CAUSE_LETTERS,
    FAINT,
    KIND_LETTERS,
    LABEL,
    LETTERS,
    SHARE,
    print_timeline,
)
from aisp_trace.traces.model import KINDS, Trace, make_trace

SAMPLES = Path(__file__).parent.parent / "traces" / "samples"
TRACES = (
    "h100_pipeline_decode.sqlite.xz",
    "h100_pipeline_decode_kineto.json.gz",
    "h200_graphs.sqlite.xz",
    "h200_managed.sqlite.xz",
    "h200x2_ddp.sqlite.xz",
    "h200x2_handoff.sqlite.xz",
    "h200x2_two_processes.sqlite.xz",
    "h200_pipeline_sequential",
)


def union(pieces: list[tuple[int, int]], low: int, high: int) -> int:
    """By sweeping over the pieces, without the interval algebra that the timeline uses."""
    total, reach = 0, low
    for start, end in sorted(pieces):
        start, end = max(start, reach), min(end, high)
        if end > start:
            total += end - start
            reach = end
    return total


def lanes(drawn: Timeline) -> list[tuple[str, Lane]]:
    return [(group.title, row) for group in drawn.groups for row in group.rows if isinstance(row, Lane)]


@pytest.mark.parametrize("name", TRACES)
def test_bars_sum_to_the_busy_share(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    one = list(find_recorded(SAMPLES / name).open(Asked(steady=True)))[-1]
    drawn = timeline(one.trace, one.analysis, 100 - LABEL - SHARE)
    assert drawn is not None
    print_timeline(one.trace, one.analysis)
    printed = capsys.readouterr().out.splitlines()
    low, high, columns = drawn.start_ns, drawn.end_ns, len(drawn.bounds) - 1
    ops = one.trace.ops.select("device", "stream", "pid", "start_ns", "end_ns").rows()
    checked = 0
    rows = iter(printed)
    for title, lane in lanes(drawn):
        line = next(
            r for r in rows if re.match(rf"  {re.escape(lane.label[:3])}.*%$", r) or lane.label.strip() in r[:LABEL]
        )
        bars, figure = line[LABEL : LABEL + columns], float(line.rsplit(None, 2)[1])
        shown = sum(BARS.index(c) if c != FAINT else 0 for c in bars) / FULL / columns
        device = int(title.split()[1]) if lane.role in ("stream", "idle") else None
        if lane.role == "stream":
            stream = re.match(r"stream (\d+)", lane.label)
            mine = [
                (s, e)
                for d, t, p, s, e in ops
                if d == device
                and (stream is None or t == int(stream[1]))
                and (not (pid := re.search(r"of (\d+)$", lane.label)) or p == int(pid[1]))
            ]
            share = union(mine, low, high) / (high - low)
        elif lane.role == "idle":
            share = 1 - union([(s, e) for d, _, _, s, e in ops if d == device], low, high) / (high - low)
        else:
            share = lane.busy_ns / (high - low)
        assert abs(shown - share) <= 0.5 / FULL / columns + 1e-4, (title, lane.label)
        assert abs(figure / 100 - share) <= 0.0005 + 1e-9, (title, lane.label)
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("name", ["h200_graphs.sqlite.xz", "h200x2_ddp.sqlite.xz"])
def test_bars_sum_to_the_busy_share_in_any_window(name: str) -> None:
    random = np.random.default_rng(7)
    one = next(find_recorded(SAMPLES / name).open(Asked()))
    ops = one.trace.ops.select("device", "stream", "start_ns", "end_ns").rows()
    first, last = min(o[2] for o in ops), max(o[3] for o in ops)
    for _ in range(6):
        low, high = sorted(random.integers(first, last, 2).tolist())
        drawn = timeline(one.trace, analyze(one.trace, window=(low, high)), int(random.integers(20, 200)))
        assert drawn is not None and (drawn.start_ns, drawn.end_ns) == (low, high)
        columns = len(drawn.bounds) - 1
        for title, lane in lanes(drawn):
            if lane.role == "calls":
                continue
            mine = [
                (s, e)
                for d, t, s, e in ops
                if d == int(title.split()[1]) and (lane.role == "idle" or t == int(lane.label.split()[1]))
            ]
            share = union(mine, low, high) / (high - low)
            share = 1 - share if lane.role == "idle" else share
            assert abs(sum(lane.heights) / FULL / columns - share) <= 0.5 / FULL / columns + 1e-4


@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 300)), max_size=40),
    st.integers(1, 80),
    st.integers(81, 2500),
)
def test_no_column_is_off_by_an_eighth_and_the_lane_by_half_of_one(
    pieces: list[tuple[int, int]], columns: int, end: int
) -> None:
    pieces.sort()
    start = np.array([s for s, _ in pieces], np.int64)
    bounds = edges(0, end, columns)
    ns = busy(cover(start, start + np.array([n for _, n in pieces], np.int64)), bounds)
    exact = FULL * ns / np.diff(bounds)
    drawn = np.array(eighths(ns, bounds))
    assert (np.abs(drawn - exact) < 1).all()
    assert ((drawn == 0) | (ns > 0)).all() and (drawn[ns == np.diff(bounds)] == FULL).all()
    assert abs(drawn.sum() - exact.sum()) <= 0.5 + 1e-9


def test_a_column_shows_what_fills_most_of_it() -> None:
    parts = {"h2d": np.array([3, 0, 5]), "compute": np.array([4, 0, 5])}
    assert fullest(parts) == ["compute", None, "h2d"]
    assert fullest({}) == []


def test_letters_are_complete_and_no_two_are_the_same() -> None:
    assert set(KIND_LETTERS) == set(KINDS) and set(CAUSE_LETTERS) == set(CAUSES)
    letters = [*KIND_LETTERS.values(), *CAUSE_LETTERS.values()]
    assert len(set(letters)) == len(letters)
    assert all(letter.isupper() for letter in KIND_LETTERS.values())
    assert all(letter.islower() for letter in CAUSE_LETTERS.values())


@pytest.mark.parametrize("columns", [40, 60, 100, 200])
def test_lines_fit_whatever_the_width(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert cli.main(["analyze", str(SAMPLES / "h200x2_ddp.sqlite.xz"), "--timeline"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("timeline: iteration#"))
    assert max(map(cell_len, lines[start:])) <= columns
    assert len(lines) - start < 60


def crowded() -> Trace:
    """300 streams on 12 devices, launched by 50 threads with hostile names."""
    rows = 3000
    i = np.arange(rows)
    evil = "\x1b[31m::error::\n" + "n" * 100
    ops = pl.DataFrame(
        {
            "kind": ["compute"] * rows, "device": i % 12, "context": 1, "stream": i % 300, "pid": 7,
            "start_ns": i * 100, "end_ns": i * 100 + 60, "correlation": i, "name": evil, "nbytes": None,
            "src_kind": None, "dst_kind": None, "src_device": None, "dst_device": None, "graph_id": None,
            "graph_node": None, "grid": None, "block": None,
        }
    )  # fmt: skip
    ranges = pl.DataFrame(
        {
            "pid": 7, "tid": i % 50, "end_tid": i % 50, "domain": "", "name": evil, "category": "", "nbytes": None,
            "start_ns": i * 100, "end_ns": i * 100 + 90, "style": "push_pop",
        }
    )  # fmt: skip
    sample = next(find_recorded(SAMPLES / "h200_graphs.sqlite.xz").open(Asked())).trace
    return make_trace(sample.meta, ops=ops, ranges=ranges, devices=sample.devices)


def test_output_is_bounded_and_hostile_names_are_inert(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    trace = crowded()
    print_timeline(trace, analyze(trace))
    out = capsys.readouterr().out
    assert "\x1b" not in out and not re.search(r"^::error", out, re.M)
    assert len(out.splitlines()) < 200 and max(map(cell_len, out.splitlines())) <= 80
    assert "17 less busy streams of device 0 not drawn" in out
    assert "4 less busy devices not drawn" in out and "44 less busy threads not drawn" in out


def test_an_output_without_blocks_gets_digits() -> None:
    line = [
        sys.executable,
        "-P",
        "-m",
        "aisp_trace.cli",
        "analyze",
        str(SAMPLES / "h200_graphs.sqlite.xz"),
        "--timeline",
    ]
    done = subprocess.run(line, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True)
    text = done.stdout.decode("ascii")
    assert "\\u" not in text.partition("timeline:")[2] and re.search(r"  stream 7 +[ 1-8.]+ 65\.1 %", text)


def test_the_window_that_is_asked_for_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    sample = str(SAMPLES / "h200_graphs.sqlite.xz")
    assert cli.main(["analyze", sample, "--timeline", "--window", "iteration#2:iteration#3"]) == 0
    assert "timeline: the whole window, " in capsys.readouterr().out
    assert cli.main(["analyze", sample, "--timeline", "--json"]) == 2
    assert capsys.readouterr().err == (
        "aisp-trace: --timeline draws characters and --json prints a document; give one of them\n"
    )


def test_stages_are_named() -> None:
    one = next(find_recorded(SAMPLES / "h200x2_ddp.sqlite.xz").open(Asked(steady=True)))
    drawn = timeline(one.trace, one.analysis, 80)
    assert drawn is not None
    names = {one[1] for g in drawn.groups for row in g.rows if isinstance(row, Band) for one in row.ranges if one}
    assert {"forward", "backward"} <= names


def test_the_page_about_the_terminal_is_right(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its picture is what is printed, and its table has every letter."""
    monkeypatch.setenv("COLUMNS", "80")
    page = (Path(__file__).parent.parent / "docs" / "terminal.md").read_text(encoding="utf-8")
    assert cli.main(["analyze", str(SAMPLES / "h200_graphs.sqlite.xz"), "--timeline"]) == 0
    printed = capsys.readouterr().out
    drawn = [f"    {line}".rstrip() for line in printed[printed.index("timeline: ") :].rstrip().splitlines()]
    assert "\n".join(drawn) in page
    rows = dict(re.findall(r"^\| `(\w)` \| (\w+) \|", page, re.M))
    assert rows == {letter: name for name, letter in LETTERS.items()}


@pytest.mark.parametrize("kind", ["nsys", "kineto"])
def test_odd_recordings_are_drawn_or_refused(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Truncated, without kernels, with strings for times, of eight ranks ...: as far as they carry, in the width there is."""
    monkeypatch.setenv("COLUMNS", "80")
    for file in sorted((Path(__file__).parent / "cases" / kind).iterdir()):
        code = cli.main(["analyze", str(file), "--timeline", "--no-cache"])
        said = capsys.readouterr()
        assert code in (0, 2), (file.name, said.err)
        if code == 0:
            drawn = said.out[said.out.rindex("\ntimeline:") :].splitlines()
            assert max(map(cell_len, drawn)) <= 80, file.name
