"""The stage table on the terminal and the page: figures of a row are of the same time, small stages share a row, short lines lose
columns, the parts of communication sum to the whole, and both faces show the same cells."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.naming.paths import at_or_above
from aisp_trace.analyze.result import Analysis
from aisp_trace.cli.main import main
from aisp_trace.report.page.sides import Side
from aisp_trace.report.page.stages import stages_section
from aisp_trace.report.page.templates import html_of
from aisp_trace.report.page.text import ABSENT
from aisp_trace.report.stage_rows import COLUMNS, ledger_of, stage_table
from aisp_trace.report.terminal.stages import GIVING_WAY, print_stages
from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.tests.oracle.build import Row, build, call, op, span
from aisp_trace.tests.oracle.campaigns import seeds
from aisp_trace.tests.oracle.strategies import seeded_case
from aisp_trace.traces.open import open_trace

MS = 1_000_000


def parent_of_two(*more: Row) -> Analysis:
    """A step of 10 ms with two children that launch a kernel of 2 ms each, and wait a millisecond for the first one each.

    step      |-------------------|      0 to 10 ms
      load    |------|                   synchronises from 1 to 2 ms, launches at 3 ms
      train           |-----------|      launches at 7 ms
    device   k|      |XXXX|   |XXXX|     k: a kernel of the step's own, up to 1 ms
    """
    ranges = [span("step", 0, 10 * MS), span("load", MS, 5 * MS), span("train", 5 * MS, 10 * MS), *more]
    api = [
        call("cudaLaunchKernel", 0, 10, 1),
        call("cudaStreamSynchronize", 1 * MS, 2 * MS),
        call("cudaLaunchKernel", 3 * MS, 3 * MS, 2),
        call("cudaLaunchKernel", 7 * MS, 7 * MS, 3),
    ]
    ops = [
        op("compute", 10, MS, 1),
        op("compute", 3 * MS, 5 * MS, 2),
        op("compute", 7 * MS, 9 * MS, 3),
    ]
    return analyze(build(ranges=ranges, api=api, ops=ops), window=(0, 10 * MS))


def shown(
    found: Analysis, capsys: pytest.CaptureFixture[str]
) -> tuple[list[str], dict[str, dict[str, str]], list[str]]:
    """(titles, cells by stage and title, the lines below the table)."""
    print_stages(found)
    lines = capsys.readouterr().out.splitlines()[1:]
    titles = [t for t in (part.strip() for part in lines[0].split("  ")) if t]
    rows: dict[str, dict[str, str]] = {}
    for at, line in enumerate(lines[1:], 1):
        cells = [c for c in (part.strip() for part in line.split("  ")) if c]
        if len(cells) != len(titles):
            return titles, rows, lines[at:]
        rows[cells[0]] = dict(zip(titles, cells, strict=True))
    return titles, rows, []


def test_a_parents_row_counts_its_children_in_every_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    _, rows, below = shown(parent_of_two(), capsys)
    assert rows["step"] | {"dev": "0", "n": "1"} == rows["step"]
    figures = {
        name: [row[t] for t in ("ops", "compute", "wait", "idle", "own idle", "share")] for name, row in rows.items()
    }
    # own idle: of the step the 10 ns of its launch; what follows the last kernel is of no stage
    assert figures == {
        "step": ["3", "5.000", "1.000", "4.000", "0.000", "90.0 %"],
        "load": ["1", "2.000", "1.000", "2.000", "2.000", "40.0 %"],
        "train": ["1", "2.000", "-", "2.000", "2.000", "40.0 %"],
    }
    text = " ".join(line.strip() for line in below)
    assert "every column but n and own idle counts nested stages;" in text
    assert "share: of the window" in text


@pytest.mark.parametrize("tried", seeds(40, 200, 40))
def test_inclusive_is_own_and_what_nests_in_it(tried: range) -> None:
    for seed in tried:
        case = seeded_case(seed)
        if isinstance(case.window, tuple) and case.window[0] >= case.window[1]:
            continue
        found = analyze(case.trace, window=case.window, attribution=case.attribution, details=False)
        ledger = ledger_of(found)
        tops = {path for _, path in ledger.of if not any(path.startswith(f"{p}/") for _, p in ledger.of if p != path)}
        for device, length in ledger.window.items():
            assert sum(ledger.of[device, path] for path in tops) == length, seed
        for (device, path), ns in ledger.of.items():
            nested = [p for d, p in ledger.own if d == device and (p == path or p.startswith(f"{path}/"))]
            assert ns == sum(ledger.own[device, p] for p in nested), (seed, path)
            idle = sum(ledger.own_idle[device, p] for p in nested)
            assert ledger.idle[device, path] == idle, (seed, path)
            assert ledger.waits[device, path] <= idle <= ns, (seed, path)


def test_stages_below_a_thousandth_of_the_window_share_a_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    at = (2 * MS, 2 * MS + 500)
    small = [span(name, t, t + 400) for name, t in zip(("one", "two"), at, strict=True)]
    _, rows, _ = shown(parent_of_two(*small), capsys)
    assert list(rows) == ["step", "train", "load", "(2 below 0.1 %, 0.000 ms)"]
    _, rows, _ = shown(parent_of_two(small[0]), capsys)
    assert set(rows) == {"step", "load", "one", "train"}, "a single one keeps its name"
    large = [span(name, t, t + MS // 100) for name, t in zip(("one", "two"), (2 * MS, 3 * MS + MS // 2), strict=True)]
    _, rows, _ = shown(parent_of_two(*large), capsys)
    assert {"one", "two"} <= set(rows)


def test_short_lines_lose_the_columns_that_say_least(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for width in (60, 70, 80, 90, 100, 140):
        monkeypatch.setenv("COLUMNS", str(width))
        print_stages(parent_of_two(span("a stage with a long name", 5 * MS, 9 * MS)))
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= max(width, 70)
        missing = [title for title in GIVING_WAY if f" {title}" not in lines[1].replace("own idle", "own-idle")]
        seen.append([t for t in missing if t != "own idle" or "own idle" not in lines[1]])
    without_comm = [title for title in GIVING_WAY if not title.startswith("comm ")]  # nothing is communicated here
    seen = [[title for title in missing if title in without_comm] for missing in seen]
    assert seen[-1] == []
    assert all(missing == without_comm[: len(missing)] for missing in seen)
    assert len(seen[0]) > len(seen[-1])
    assert [len(m) for m in seen] == sorted((len(m) for m in seen), reverse=True)


# --- one source of rows for both faces

Cells = list[list[str]]


def on_the_terminal(printed: str) -> list[Cells]:
    """Each stage table in what was printed: its titles, then its rows; a nested stage's name without its indent."""
    tables: list[Cells] = []
    lines = iter(printed.splitlines())
    for line in lines:
        if not line.startswith("stage (ms)"):
            continue
        table = [re.split(r" {2,}", line)]
        for row in lines:
            cells = re.split(r" {2,}", row.strip())
            if len(cells) != len(table[0]):
                break
            table.append(cells)
        tables.append(table)
    return tables


def page_of(sides: list[Side]) -> str:
    """The section's markup."""
    made = stages_section(sides)
    assert made is not None
    return str(html_of(made))


def on_the_page(page: str) -> list[tuple[Cells, list[str]]]:
    """Each stage table of a page: its titles and rows, and what each title says it counts."""
    section = page.split('<section id="stages"', 1)[1].split("</section>", 1)[0]
    found = []
    for table in re.findall(r"<table.*?</table>", section, re.DOTALL):
        heads = re.findall(r"<th [^>]*>(.*?)</th>", table)
        titles, counts = zip(
            *(re.sub(r"<span.*?>|</span>", "", f"{head}<br>").split("<br>")[:2] for head in heads), strict=True
        )
        rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table)[1:]]
        cells = [[unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row] for row in rows]
        found.append(([list(titles), *cells], list(counts)))
    return found


@pytest.mark.parametrize("name", ["h200x2_ddp.sqlite.xz", "h200_pipeline_sequential"])
def test_terminal_and_page_show_the_same_cells(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Column by column and row by row, as the two commands print them: a trace of two GPUs that communicate, and a run."""
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["analyze", str(SAMPLES / name)]) == 0
    printed = on_the_terminal(capsys.readouterr().out)
    assert main(["report", str(SAMPLES / name), "-o", str(tmp_path / "page.html")]) == 0
    shown = on_the_page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(printed) == len(shown) == (1 if "ddp" in name else 3)
    for (heads, *rows), ((titles, *cells), counts) in zip(printed, shown, strict=True):
        assert heads == ["stage (ms)", *titles[1:]] and len(rows) >= 2
        assert [[cell.replace(ABSENT, "-") for cell in row] for row in cells] == rows
        own = {"n", "own idle"}
        assert counts == ["", "", *("own" if title in own else "inclusive" for title in titles[2:])]
        assert ("comm wait" in titles) == ("comm transfer" in titles) == ("ddp" in name)


def test_a_nested_stage_keeps_its_name_on_the_page_and_a_small_ones_row_is_there() -> None:
    small = [span(name, t, t + 400) for name, t in (("one", 2 * MS), ("<b>", 2 * MS + 500))]
    made = page_of([Side("only", parent_of_two(*small))])
    (((_, *rows), _),) = on_the_page(made)
    assert [row[0] for row in rows] == ["step", "train", "load", "(2 below 0.1 %, 0.000 ms)"]
    assert 'style="--depth:1"' in made and "in one" in made
    assert "<b>" not in page_of([Side("only", parent_of_two(small[1]))])
    assert stages_section([Side("none", analyze(build(ops=[op("compute", 0, 10)])))]) is None


# --- what communication waited, and what it transferred

ALL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"


def ranks(*starts: tuple[int, ...], ranges: list[Row], lengths: int = 10) -> Analysis:
    """Collectives, each told by the start of every rank's kernel; all ranks end `lengths` after the last start. The ranges are
    those of each rank's process, which launches a kernel when it starts."""
    ops, api, spans = [], [], []
    for rank in range(len(starts[0])):
        place: dict[str, Any] = {"pid": rank + 1}
        for number, each in enumerate(starts, 1):
            ops.append(op("comm", each[rank], max(each) + lengths, number, name=ALL, device=rank, stream=20, **place))
            api.append(call("cudaLaunchKernel", each[rank], each[rank], number, **place))
        spans += [row | place for row in ranges]
    return analyze(build(ops=ops, api=api, ranges=spans))


def comm_cells(found: Analysis, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """(comm wait, comm transfer) by stage and device; the stage's name without its parents."""
    print_stages(found)
    ((heads, *rows),) = on_the_terminal(capsys.readouterr().out)
    told = [dict(zip(heads, row, strict=True)) for row in rows]
    return {(row["stage (ms)"], row["dev"]): (row["comm wait"], row["comm transfer"]) for row in told}


def test_waiting_and_transfer_are_told_by_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    step      |---------------------------|
    forward   |-----------|
    backward               |--------------|
    rank 0     ~~~~===      ===                  ~ waits 2 ms for rank 1, and later not at all
    rank 1         ===      ===
    """
    monkeypatch.setenv("COLUMNS", "200")
    stages = [span("step", 0, 30 * MS), span("forward", 0, 14 * MS), span("backward", 15 * MS, 29 * MS)]
    found = ranks((MS, 3 * MS), (20 * MS, 20 * MS), ranges=stages, lengths=MS)
    assert comm_cells(found, capsys) == {
        ("step", "0"): ("2.000", "2.000"),
        ("step", "1"): ("0.000", "2.000"),
        ("forward", "0"): ("2.000", "1.000"),
        ("forward", "1"): ("0.000", "1.000"),
        ("backward", "0"): ("0.000", "1.000"),
        ("backward", "1"): ("0.000", "1.000"),
    }


def test_what_cannot_be_paired_is_not_told_as_zero(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    alone = ranks((MS,), (2 * MS,), ranges=[span("step", 0, 4 * MS)])
    assert comm_cells(alone, capsys) == {("step", "0"): ("-", "-")}
    assert alone.stages["comm_wait_ns"].to_list() == [None]
    assert not {"comm wait", "comm transfer"} & {c.title for c in stage_table(parent_of_two(), 60).columns}
    assert {"comm wait", "comm transfer"} <= {c.title for c in COLUMNS}


def assert_parts_sum_to_the_whole(found: Analysis) -> None:
    """In integers: stages that nest in none, and collectives of no stage, are the whole of each device; and what a stage has of
    its own is what its collectives have."""
    for part, whole in (("comm_wait_ns", "comm_wait_ns"), ("comm_transfer_ns", "comm_ns")):
        told = {(d, path): ns for d, path, ns in found.stages.select("device", "path", part).iter_rows()}
        own = dict.fromkeys(found.collectives.select("device", "stage").iter_rows(), 0)
        for device, stage, ns in found.collectives.select("device", "stage", whole).iter_rows():
            own[device, stage] += ns
        for device in found.collectives["device"].unique():
            listed = {path for d, path in told if d == device}
            roots = [path for path in listed if not set(at_or_above(path)[:-1]) & listed]
            elsewhere = sum(ns for (d, s), ns in own.items() if d == device and not set(at_or_above(s)) & listed)
            assert sum(told[device, path] or 0 for path in roots) + elsewhere == sum(
                ns for (d, _), ns in own.items() if d == device
            )
            for path in listed:
                nested = sum((told[device, p] or 0) for p in listed if at_or_above(p)[:-1][-1:] == [path])
                assert (told[device, path] or 0) - nested == own.get((device, path), 0)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5)), max_size=4),
)
def test_the_parts_of_communication_sum_over_stages(late: list[tuple[int, ...]], cut: list[tuple[int, int]]) -> None:
    starts = [tuple(100 * number + ns for ns in each) for number, each in enumerate(late)]
    stages = [span("step", 0, 450)] + [
        span(f"s {name}", 100 * at, 100 * (at + n)) for name, (at, n) in zip("abcd", cut, strict=False)
    ]
    found = ranks(*starts, ranges=stages)
    assert found.collectives["paired"].sum() == 3 * len(late)
    assert_parts_sum_to_the_whole(found)


def test_the_samples_parts_of_communication_sum_to_its_collectives() -> None:
    found = analyze(open_trace(SAMPLES / "h200x2_ddp.sqlite.xz"), window="steady")
    assert_parts_sum_to_the_whole(found)
    rows = {(row.path, row.device): row for row in stage_table(found, 60).rows}
    for device, wait, comm in found.collectives.select("device", "comm_wait_ns", "comm_ns").iter_rows():
        row = rows["iteration", device]
        assert (row.comm_wait_ns, row.comm_transfer_ns) == (wait, comm) and min(wait, comm) > 0
