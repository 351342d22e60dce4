"""The stage table on the terminal: figures of a row are of the same time, small stages share a row, short lines lose columns."""

from __future__ import annotations

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import Analysis
from aisp_trace.report.terminal.stages import GIVING_WAY, ledger_of, print_stages
from aisp_trace.tests.oracle.build import Row, build, call, op, span
from aisp_trace.tests.oracle.campaigns import seeds
from aisp_trace.tests.oracle.strategies import seeded_case

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
    assert "every column but own idle counts nested stages;" in text
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
    assert list(rows) == ["step", "train", "load", "(2 more, 0.000 ms)"]
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
    assert seen[-1] == []
    assert all(missing == list(GIVING_WAY[: len(missing)]) for missing in seen)
    assert len(seen[0]) > len(seen[-1])
    assert [len(m) for m in seen] == sorted((len(m) for m in seen), reverse=True)
