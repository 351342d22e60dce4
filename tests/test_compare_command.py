"""``aisp-trace compare`` as a person uses it: what it takes, what it shows in 80 columns, and when it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len as display_width

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.comparison.amounts import amounts
from aisp_trace.analyze.comparison.changes import kernel_totals
from aisp_trace.cli import every
from aisp_trace.cli import main as cli
from aisp_trace.expectations.comparing.compare import Choices, assembled
from aisp_trace.expectations.comparing.notes import tracing, turned, unsure
from aisp_trace.expectations.comparing.sides import Side
from aisp_trace.expectations.deciding import DECIDING, Concern, Estimate, error_of
from aisp_trace.expectations.judging.between import Untraced
from aisp_trace.report.documents.comparison import document
from aisp_trace.report.terminal.comparison import print_compared
from aisp_trace.tests.builders import pair
from aisp_trace.traces.model import Trace

SAMPLES = Path(__file__).parent.parent / "traces" / "samples"
RUN = SAMPLES / "h200_pipeline_sequential"
DECODE = SAMPLES / "h100_pipeline_decode.sqlite.xz"
NODES = SAMPLES / "h100_pipeline_decode_graph_nodes.sqlite.xz"

MS = pair.MS

Compare = Callable[..., tuple[int, str, str]]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Runs the command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str | Path) -> tuple[int, str, str]:
        code = cli.main(["compare", *map(str, args)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def copy_of_run(folder: Path, name: str, change: Change | None = None) -> Path:
    """The pair of the sample run under another id, its manifest changed."""
    place = folder / name
    shutil.copytree(RUN, place)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["run_id"] = name
    manifest["variants"] = manifest["variants"][:2]
    for one in manifest["rounds"]:
        one["result"]["variants"] = [v for v in one["result"]["variants"] if v["name"] != "cuda_graph"]
    if change is not None:
        change(manifest)
    (place / "manifest.json").write_text(json.dumps(manifest))
    return place


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample run without its third variant."""
    return copy_of_run(tmp_path_factory.mktemp("two"), "pipeline_sequential-pair")


def results(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Every process's answer about a variant."""
    processes = [r["result"] for r in manifest["rounds"]] + [v["recording"]["result"] for v in manifest["variants"]]
    return [variant for process in processes for variant in process["variants"]]


def with_rung(manifest: dict[str, Any]) -> None:
    """A middle rung that recorded what the optimized variant recorded."""
    first, last = manifest["variants"]
    manifest["variants"] = [first, {**last, "name": "pinned"}, last]
    manifest["variants"][1] = json.loads(
        json.dumps(manifest["variants"][1]).replace('"name": "optimized"', '"name": "pinned"')
    )
    for one in manifest["rounds"]:
        rung = json.loads(json.dumps(one["result"]["variants"][-1]))
        one["result"]["variants"].append({**rung, "name": "pinned"})
        optimized = next(v for v in one["result"]["variants"] if v["name"] == "optimized")
        one["result"]["variants"][-1]["iterations_ns"] = optimized["iterations_ns"]
        one["result"]["variants"][-1]["work"] = optimized["work"]


def sums(document: dict[str, Any]) -> None:
    """Every list of parts in a comparison sums to its difference."""
    for c in document["comparisons"]:
        weights = c["basis"]["weights"]
        for part in ("terms", "stages", "windows"):
            assert sum(t["difference"] for t in c[part]) == c["difference"], part
            assert all(t["difference"] == t["opt_ns"] * weights[1] - t["base_ns"] * weights[0] for t in c[part]), part
        assert all(k["difference"] == k["opt_ns"] * weights[1] - k["base_ns"] * weights[0] for k in c["kernels"])
        for part in ("parts", "reasons"):
            assert sum(p["difference"] for p in c["why"][part]) == c["difference"], part


def test_a_run_alone_is_its_optimized_variant_against_its_baseline(compare: Compare, two: Path) -> None:
    code, out, err = compare(two)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert max(map(display_width, lines)) <= 80
    assert lines[0].startswith("base  baseline of pipeline_sequential") and lines[1].startswith("opt   optimized of")
    assert "device 0: window 1.23 s -> 125 ms, -1.11 s" in out
    assert "untraced: 10.03x, between 9.11x and 15.19x (99.5 %, the median ratio of 12 rounds)" in " ".join(out.split())
    assert "traced: 9.86x" in out
    assert "which the interval of the untraced rounds excludes" not in out
    assert "kernels: 2 same" in out


def test_a_traced_gain_that_the_untraced_rounds_exclude_is_named(compare: Compare, tmp_path: Path) -> None:
    def quicker(manifest: dict[str, Any]) -> None:
        for made in manifest["rounds"]:
            for variant in made["result"]["variants"]:
                if variant["name"] == "optimized":
                    variant["iterations_ns"] = [ns * 3 // 4 for ns in variant["iterations_ns"]]

    out = compare(copy_of_run(tmp_path, "quicker", quicker))[1]
    assert "traced, the speedup is 9.86x, which the interval of the untraced rounds excludes" in " ".join(out.split())
    lines = out.splitlines()
    note, why = (
        next(i for i, line in enumerate(lines) if line.startswith(word)) for word in ("note: traced, ", "why,")
    )
    assert any(line.startswith("untraced: ") for line in lines[:note]) and note < why, (
        "below the ratios, above the tables"
    )
    assert out.count("note: traced, the speedup is 9.86x") == 1
    assert lines.count("spread: interquartile range over iterations (the larger side's) / difference") == 1


def test_shown_rows_sum_to_the_total_whatever_is_cut(compare: Compare, two: Path) -> None:
    for top in (1, 3, 100):
        out = compare(two, "--top", top)[1]
        table = out[out.index("\nterm ") :].split("\n\n")[0].splitlines()[2:-1]
        rows = [[float(x.replace(",", "")) for x in re.findall(r"[+-]?[\d,]+\.\d{3}\b", line)] for line in table]
        *parts, total = rows
        assert len(parts) in (top + 1, 22) and all(len(row) == 3 for row in rows)
        for column in range(3):
            assert sum(p[column] for p in parts) == pytest.approx(total[column], abs=0.0005 * len(parts) + 1e-9)


def test_two_variants_by_name_or_by_folder_are_the_same_comparison(compare: Compare, two: Path) -> None:
    whole = json.loads(compare(two, "--json")[1])["comparisons"][0]
    for words in ((f"{two}:baseline", f"{two}:optimized"), (two / "baseline", two / "optimized")):
        code, out, _ = compare(*words, "--json")
        found = json.loads(out)
        sums(found)
        assert code == 0
        assert {k: v for k, v in found["comparisons"][0].items() if k != "role"} == {
            k: v for k, v in whole.items() if k != "role"
        }


def test_json_holds_every_term_and_its_spread(compare: Compare, two: Path) -> None:
    found = json.loads(compare(two, "--json", "--top", "1")[1])
    sums(found)
    assert (found["schema"], found["mode"], found["exit_code"]) == ("aisp-trace/comparison/1", "pair", 0)
    assert [s["name"] for s in found["sides"]] == ["baseline", "optimized"]
    (c,) = found["comparisons"]
    assert c["difference"] == -1_108_581_905
    assert c["basis"] == {"per": "window", "work": "equal", "by_device": True, "weights": [1, 1], "denominator": 1}
    largest = c["terms"][0]
    assert (largest["stage"], largest["category"], largest["cause"], largest["status"]) == (
        "h2d",
        "h2d",
        None,
        "matched",
    )
    assert largest["base_per_iteration"]["n"] == 10
    low, middle, high = (
        largest["base_per_iteration"][k] for k in ("lower_quartile_ns", "median_ns", "upper_quartile_ns")
    )
    assert low <= middle <= high
    assert c["untraced"]["paired"] and c["untraced"]["rounds"] == 12
    assert {k["name"]: (k["base_bytes"], k["opt_bytes"]) for k in c["copies"]} == {
        "h2d": (5368709120,) * 2,
        "d2h": (5368709120,) * 2,
    }


def test_why_it_became_faster_stands_above_the_tables(compare: Compare, two: Path) -> None:
    out = compare(two)[1]
    assert out[out.index("why, by mechanism:") :].startswith(
        "why, by mechanism:\n"
        "   -778 ms  copies run 4.7x faster\n"
        "   -202 ms  overlap hides more: 0 ns -> 202 ms\n"
        "   -128 ms  less idle time: copy calls -76.5 ms, host code -42.5 ms, launching\n"
        "            -5.54 ms, synchronising -2.89 ms\n"
        "  -1.07 ms  kernels run 1.01x faster\n"
        "\nstage "
    )
    why = json.loads(compare(two, "--json")[1])["comparisons"][0]["why"]
    assert why["parts"][0] == {"device": 0, "mechanism": "faster", "of": "h2d", "difference": -532_177_022}
    assert {p["mechanism"] for p in why["parts"]} == {"faster", "hidden", "idle"}
    assert [r["kind"] for r in why["rates"]] == ["compute", "h2d", "d2h"]
    assert all(r["base_work"] == r["opt_work"] and r["base_common"] == r["base_ns"] for r in why["rates"])
    assert (why["reasons"][0]["text"], why["remarks"]) == ("copies run 4.7x faster", [])


def test_one_recording_held_against_itself_is_said_to_be_that(compare: Compare, two: Path) -> None:
    same = f"{two}:baseline"
    code, out, _ = compare(same, same)
    assert code == 0
    assert "Nothing differs, to the nanosecond: this is one recording compared with itself." in out
    assert "why, by mechanism" not in out and "%" not in out[out.index("\nstage ") :].split("kernels:")[0]
    found = json.loads(compare(same, same, "--json")[1])
    sums(found)
    assert (found["comparisons"][0]["why"]["parts"], found["comparisons"][0]["why"]["reasons"]) == ([], [])


def test_two_recordings_of_a_program_are_no_measured_speedup() -> None:
    def side(source: str) -> Any:
        return SimpleNamespace(run=SimpleNamespace(manifest=SimpleNamespace(source=source)))

    fall: Any = SimpleNamespace(ratio=2.79)
    (note,) = tracing(fall, side("command"), side("command"), None)
    assert note.startswith("one recording of each, and no untraced rounds")
    assert tracing(fall, side("command"), side("builtin"), None) == []
    bare: Any = SimpleNamespace(run=None)
    assert tracing(fall, bare, bare, None) == []


def test_a_run_that_was_timed_alone_says_where_its_times_are(compare: Compare, tmp_path: Path) -> None:
    def unrecorded(manifest: dict[str, Any]) -> None:
        for variant in manifest["variants"]:
            variant["recording"] = None

    run = copy_of_run(tmp_path, "timed", unrecorded)
    code, out, err = compare(run)
    assert code == 2 and "was timed and not recorded, so nothing tells why one variant is faster" in " ".join(
        err.split()
    )
    lines = out.splitlines()
    assert [line.partition("x")[0].rpartition(" ")[0] for line in lines] == ["untraced: optimized"]
    assert re.search(
        r" \d\.\d\dx(, between \d\.\d\dx and \d\.\d\dx)? \(\d+ rounds|the median ratio of \d+ rounds", lines[0]
    )
    assert compare(f"{run}:baseline", f"{run}:optimized")[:2] == (2, out), "the same of two of its variants"
    assert compare(run, "--json")[:2] == (2, "")
    named = compare(run, copy_of_run(tmp_path, "again", unrecorded))[1].splitlines()
    assert named == [f"timed: {lines[0]}", f"again: {lines[0]}"]


def test_stages_under_other_names_and_terms_that_cancel_are_said_and_no_share_is_shown(compare: Compare) -> None:
    """The graph replays copies and kernels under one new stage: 245 ms of terms leave 2 ms of difference."""
    code, out, _ = compare(f"{RUN}:optimized", f"{RUN}:cuda_graph")
    shown = " ".join(out.split())
    assert code == 0
    assert (
        "The two sides differ by 1.94 ms, which is what remains of terms that move 245 ms in both directions" in shown
    )
    assert "No stage is on both sides (3 only in base, 1 only in opt)" in shown
    assert " -1.46 ms overlap hides more: 202 ms -> 203 ms" in shown
    stages, terms = (out[out.index(f"\n{head} ") :].split("\n\n")[0] for head in ("stage", "term"))
    assert "%" not in stages
    assert not re.search(r"\d\.\d %", terms), "spreads are whole percents, shares have a digit more"
    sums(json.loads(compare(f"{RUN}:optimized", f"{RUN}:cuda_graph", "--json")[1]))


def test_a_ladder_shows_each_rung_and_sums_to_the_total(compare: Compare, tmp_path: Path) -> None:
    run = copy_of_run(tmp_path, "ladder", with_rung)
    found = json.loads(compare(run, "--json")[1])
    sums(found)
    assert (found["mode"], [c["role"] for c in found["comparisons"]]) == ("ladder", ["step", "step", "total"])
    first, second, total = (c["difference"] for c in found["comparisons"])
    assert first + second == total and second == 0
    code, out, _ = compare(run)
    assert code == 0
    assert "baseline -> pinned" in out and "pinned -> optimized" in out and "== baseline -> optimized" in out
    assert max(map(display_width, out.splitlines())) <= 80


def test_an_alternative_is_held_against_what_it_changes_and_is_no_rung(compare: Compare, tmp_path: Path) -> None:
    def with_alternative(manifest: dict[str, Any]) -> None:
        with_rung(manifest)
        first, middle, last = manifest["variants"]
        manifest["variants"] = [first, last, {**middle, "changes": "baseline"}]

    run = copy_of_run(tmp_path, "alternative", with_alternative)
    found = json.loads(compare(run, "--json")[1])
    sums(found)
    names = [side["name"] for side in found["sides"]]
    told = [(c["role"], names[c["base"]], names[c["opt"]]) for c in found["comparisons"]]
    assert told == [("total", "baseline", "optimized"), ("alternative", "baseline", "pinned")]
    out = compare(run)[1]
    assert "== baseline -> optimized" in out and "baseline -> pinned" in out and "optimized -> pinned" not in out


def test_a_rung_that_does_less_is_named_in_the_ladder(compare: Compare, tmp_path: Path) -> None:
    def lazy(manifest: dict[str, Any]) -> None:
        with_rung(manifest)
        manifest["variants"][1]["recording"]["exit_code"] = 1

    code, out, _ = compare(copy_of_run(tmp_path, "lazy", lazy))
    shown = " ".join(out.split())
    assert code == 3
    for step in ("baseline -> pinned", "pinned -> optimized"):
        assert f"NOT COMPARABLE, {step}: the recording of pinned ended with exit code 1" in shown


def test_two_occasions_are_compared_variant_by_variant(compare: Compare, two: Path, tmp_path: Path) -> None:
    def slower(manifest: dict[str, Any]) -> None:
        for one in manifest["rounds"]:
            for variant in one["result"]["variants"]:
                variant["iterations_ns"] = [2 * ns for ns in variant["iterations_ns"]]

    later = copy_of_run(tmp_path, "later", slower)
    found = json.loads(compare(two, later, "--json")[1])
    assert (found["mode"], [c["role"] for c in found["comparisons"]]) == ("occasions", ["occasion", "occasion"])
    for c in found["comparisons"]:
        assert c["difference"] == 0
        assert c["untraced"]["ratio"] == 0.5 and not c["untraced"]["paired"]
        # either side may be wrong at either end, at any look of --decide
        assert c["untraced"]["interval"]["coverage"] == pytest.approx(1 - 4 * error_of(DECIDING))
        assert any("two occasions" in note for note in c["notes"])
        assert any("traced, the speedup is 1.00x, which" in note for note in c["notes"])


def items(manifest: dict[str, Any]) -> None:
    for variant in results(manifest):
        variant["work"]["items"] //= 2


def output(manifest: dict[str, Any]) -> None:
    for variant in results(manifest):
        variant["output"] |= {"error": 0.5, "ok": False}


def seed(manifest: dict[str, Any]) -> None:
    manifest["seed"] = 1
    for process in [r["result"] for r in manifest["rounds"]] + [v["recording"]["result"] for v in manifest["variants"]]:
        process["seed"] = 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (items, "required work differs: items is"),
        (seed, "inputs differ: seed is 0 and 1"),
        (output, "differs from the"),
    ],
)
def test_different_work_is_said_and_leaves_3(compare: Compare, tmp_path: Path, change: Change, words: str) -> None:
    other = copy_of_run(tmp_path, "other", change)
    code, out, _ = compare(f"{RUN}:optimized", f"{other}:optimized")
    assert code == 3
    shown = " ".join(out.split())
    assert "NOT COMPARABLE, different work: " in shown and words in shown
    found = json.loads(compare(f"{RUN}:optimized", f"{other}:optimized", "--json")[1])
    assert found["exit_code"] == 3 and any(words in reason for reason in found["comparisons"][0]["objections"])


def test_two_windows_of_one_trace_with_a_graph_on_one_side(compare: Compare) -> None:
    code, out, err = compare(DECODE, "--window", "decode/baseline", "--against", "decode/optimized")
    assert (code, err) == (0, "")
    assert "device 0: window 44.9 ms -> 8.73 ms, -36.2 ms" in out
    assert "traced: 5.15x" in out and "launches: 2,048 -> 64" in out
    assert "kernels: 4 removed, 1 added" in out
    shown = " ".join(out.split())
    assert "64 graph launches of opt were recorded whole" in shown
    assert "nothing recorded proves that both sides did the same work" in shown
    assert max(map(display_width, out.splitlines())) <= 80


def test_two_windows_of_one_trace_are_told_apart(compare: Compare) -> None:
    code, out, _ = compare(str(SAMPLES / "h200x2_ddp.sqlite.xz"), "--window", "iteration#3", "--against", "iteration#2")
    assert code == 0
    assert re.findall("^overlap in (.*): on device", out, re.MULTILINE) == ["base"] * 2 + ["opt"] * 2


def test_two_traces_one_with_graph_nodes(compare: Compare) -> None:
    window = ("--window", "decode/optimized")
    code, out, _ = compare(DECODE, NODES, *window, "--json")
    found = json.loads(out)
    sums(found)
    assert code == 0
    assert any(
        t["cause"] == "graph_internal" and t["base_ns"] == 0 < t["opt_ns"] for t in found["comparisons"][0]["terms"]
    )
    assert [s["relative_to"] for s in found["sides"]] == ["decode/optimized"] * 2


def test_a_large_single_gap_is_flagged(compare: Compare) -> None:
    name = "pipeline_sequential"
    found = json.loads(compare(DECODE, "--window", f"{name}/baseline", "--against", f"{name}/optimized", "--json")[1])
    gaps = found["sides"][1]["large_gaps"]
    assert gaps and gaps[0]["cause"] == "host_code" and gaps[0]["share"] > 0.05
    assert any(
        "a single event of that size proves nothing about a time" in note for note in found["comparisons"][0]["notes"]
    )


def test_a_selection_makes_other_stages_and_the_same_sum(compare: Compare) -> None:
    name = "pipeline_sequential"
    window = ("--window", f"{name}/baseline", "--against", f"{name}/optimized", "--json")
    folded = json.loads(compare(DECODE, *window, "--depth", "2")[1])
    sums(folded)
    assert {t["stage"] for t in folded["comparisons"][0]["terms"]} == {"(own)"}
    chosen = json.loads(compare(DECODE, *window, "--stages", "^stage:")[1])
    sums(chosen)
    assert {"stage:h2d", "stage:d2h"} <= {t["stage"] for t in chosen["comparisons"][0]["terms"]}
    assert chosen["comparisons"][0]["difference"] == folded["comparisons"][0]["difference"] == -805_805_347


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "no complete run lies under"),
        (("absent",), "absent does not exist"),
        ((DECODE,), "alone has nothing to be compared with; name a second one, or --against RANGE"),
        ((RUN, DECODE), "has several variants (baseline, optimized, cuda_graph); name one"),
        ((f"{RUN}:optimised",), "has no variant 'optimised'"),
        ((f"{DECODE}:optimized",), "is a trace and has no variants"),
        ((DECODE, "--window", "decode/base", "--against", "decode/optimized"), "did you mean 'decode/baseline'"),
        ((RUN, "--top", "0"), "--top"),
        ((RUN, "--agains", "x"), "did you mean '--against'?"),
        ((RUN, RUN, RUN), "see `aisp-trace compare --help`"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_2(compare: Compare, args: tuple[str | Path, ...], words: str) -> None:
    code, out, err = compare(*args)
    assert (code, out) == (2, "")
    assert words in err and len(err.splitlines()) == 1


def test_a_run_with_one_recording_needs_a_second(compare: Compare, tmp_path: Path) -> None:
    def one(manifest: dict[str, Any]) -> None:
        manifest["variants"][1]["recording"] = None

    run = copy_of_run(tmp_path, "single", one)
    code, _, err = compare(run)
    assert code == 2 and "holds only the recording of baseline" in err
    code, out, _ = compare(run, f"{RUN}:optimized", "--json")  # it stands for its only recording
    assert code == 0 and json.loads(out)["sides"][0]["name"] == "baseline"
    code, _, err = compare(f"{run}:optimized", f"{RUN}:optimized")
    assert code == 2 and "variant optimized was not recorded" in err


def side_of(name: str, trace: Trace, **choices: Any) -> Side:
    analysis = analyze(trace, **choices)
    totals = kernel_totals(trace, analysis.windows), amounts(analysis)
    return Side(name, None, "", analysis, *totals, None, None)


def test_other_numbers_of_iterations_are_shown_per_iteration(capsys: pytest.CaptureFixture[str]) -> None:
    """Two iterations of 10 ms against one of 6 ms: 4 ms less in each, and the columns are what they sum to."""
    both = pair.baseline()
    one = pair.trace(
        [("h2d", 13, 1 * MS, 4 * MS), ("compute", 7, 2 * MS, 5 * MS)],
        [("measured", 0, 6 * MS), ("iteration", 0, 6 * MS), ("h2d", 0, MS + 1), ("compute", MS + 1, 6 * MS)],
    )
    sides = [side_of("base", both, window="measured"), side_of("opt", one, window="measured")]
    found = assembled("pair", [("pair", 0, 1)], sides, Choices())
    print_compared(found, 12)
    out = capsys.readouterr().out
    assert "device 0: one iteration 10.0 ms -> 6.00 ms, -4.00 ms" in out
    assert "all times are those of one iteration" in out and "traced: 1.67x" in out
    assert "2 iterations of base are compared with 1 of opt, so all differences are per iteration" in " ".join(
        out.split()
    )
    assert (
        "  -2.00 ms  less work in kernels: 2 -> 1 operations\n  -2.00 ms  overlap hides more: 0 ns -> 2.00 ms\n" in out
    )
    assert "  +1.00 ms  kernels run 1.50x slower\n  -1.00 ms  less idle time: host code -999 us\n" in out
    assert re.search(r"^total +10\.000 +6\.000 +-4\.000 +100\.0 %$", out, re.MULTILINE)
    assert re.search(r"^h2d +2 +1 +100 MB +50\.0 MB +3\.000 +3\.000 +0\.000$", out, re.MULTILINE)
    assert re.search(r"^gemm +changed +4 +1 +4\.000 +3\.000 +-1\.000$", out, re.MULTILINE)
    sums(json.loads(json.dumps(document(found))))


def test_hostile_names_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b[2J\u202e" + "x" * 100_000
    ops = [("compute", 7, 1000, 2000), ("compute", 7, 8000, 8500)]
    stages = [("measured", 0, 9000), ("iteration", 0, 9000), (name, 100, 8600)]
    trace = pair.trace(ops, stages, kernel=name, file=name)
    found = assembled("pair", [("pair", 0, 1)], [side_of(n, trace, window="measured") for n in (name, "b")], Choices())
    print_compared(found, 12)
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out
    assert max(map(display_width, out.splitlines())) <= 100
    assert json.loads(json.dumps(document(found)))["comparisons"][0]["difference"] == 0


def test_a_recording_that_failed_is_no_evidence(compare: Compare, tmp_path: Path) -> None:
    def failed(manifest: dict[str, Any]) -> None:
        manifest["variants"][1]["recording"]["exit_code"] = 9

    code, out, _ = compare(copy_of_run(tmp_path, "failed", failed))
    assert code == 3
    assert "NOT COMPARABLE, the recording of optimized ended with exit code 9 and is not believed" in " ".join(
        out.split()
    )


@pytest.mark.parametrize(
    ("traced", "low", "high", "answer"),
    [
        (0.82, 1.55, 1.70, True),
        (1.20, 0.80, 0.95, True),
        (0.99, 0.98, 1.02, False),  # the untraced rounds see no difference, so there is nothing to turn
        (1.30, 1.55, 1.70, False),
        (0.82, None, None, False),
        (None, 1.55, 1.70, False),
    ],
)
def test_tracing_that_turns_the_answer_round(
    traced: float | None, low: float | None, high: float | None, answer: bool
) -> None:
    assert turned(traced, Estimate(1.0, low, high, 8, 0.99)) is answer


def test_a_ratio_that_the_rounds_do_not_carry_is_unsure() -> None:
    def of(low: float | None, high: float | None, *concerns: Concern) -> bool:
        return unsure(Untraced(Estimate(1.6, low, high, 8, 0.99), 2.0, 1.0, True, "iteration", concerns))

    assert not of(1.5, 1.7)
    assert not of(0.5, 0.9)
    assert of(0.92, 1.69) and of(None, None) and of(1.5, 1.7, Concern("spread", "32 %"))


def command_run(folder: Path, second: int, words: str = "", **changes: Any) -> Path:
    """A run as `capture train.py` leaves it, made at that second."""

    def one(manifest: dict[str, Any]) -> None:
        first = manifest["variants"][0]
        manifest |= {"source": "command", "workload": "command", "script": "train", "rounds": [], "size": None}
        manifest |= {"variants": [first | {"name": "command"}], "created_utc": f"2026-11-30T10:00:{second:02}Z"}
        manifest |= {"command_line": ["aisp-trace", "capture", "train.py", *words.split()], "run_id": f"r{second}"}
        manifest |= changes

    return copy_of_run(folder, f"r{second}", one)


def ids(out: str) -> list[str]:
    return [side["run_id"] for side in json.loads(out)["sides"]]


def test_a_run_of_a_script_is_held_against_the_one_before(compare: Compare, tmp_path: Path) -> None:
    """r1 train, r2 other, r3 train, r4 train of a rank"""
    command_run(tmp_path, 1)
    command_run(tmp_path, 2, script="other")
    last = command_run(tmp_path, 3, "--workers 4")
    command_run(tmp_path, 4, rank=1, ranks=2)
    code, out, _ = compare(last, "--json")
    assert code == 0 and ids(out) == ["r1", "r3"]
    assert json.loads(out)["mode"] == "pair"
    said = " ".join(compare(last)[1].split())
    assert said.startswith("base r1 (nsys"), "its one recording has no name of its own"
    assert "base is `aisp-trace capture train.py`, opt is `aisp-trace capture train.py --workers 4`" in said


def test_capture_offers_the_run_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [command_run(tmp_path, second) for second in (1, 2)]
    every.show_runs(runs[:1])
    assert "compare" not in capsys.readouterr().out
    every.show_runs(runs[1:])
    assert f"or against the run before, r1: aisp-trace compare {runs[1]}" in capsys.readouterr().out


def test_the_first_run_of_a_script_says_what_to_do(compare: Compare, tmp_path: Path) -> None:
    first = command_run(tmp_path, 1)
    command_run(tmp_path, 2)
    code, _, err = compare(first)
    assert code == 2
    assert "holds only the recording of command" in err and "or capture train again after your change" in err


def test_a_run_of_an_older_version_needs_a_second(compare: Compare, tmp_path: Path) -> None:
    for second in (1, 2):
        run = command_run(tmp_path, second, script=None)
    code, _, err = compare(run)
    assert code == 2 and err.rstrip().endswith("name a second run or trace to compare it with")
