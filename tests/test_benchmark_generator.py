"""The generator of large traces: what it says it wrote is what is in the file, and the file is a possible recording."""

from __future__ import annotations

import csv
import io
import itertools
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.benchmarks.export_file import SCHEMA
from aisp_trace.benchmarks.generate import generate, main
from aisp_trace.benchmarks.layout import Shape
from aisp_trace.benchmarks.measure import Cost, measure
from aisp_trace.benchmarks.results_page import COLD, Series, results
from aisp_trace.benchmarks.scan import TABLES, scan
from aisp_trace.benchmarks.timeline import Stream
from aisp_trace.benchmarks.truth import Truth
from aisp_trace.traces.open import open_trace

KERNELS = 2_000
KERNEL, RUNTIME = "CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_RUNTIME"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """Two processes on two devices; long enough for a loader's prefetch, lost launches and failed ones."""
    path = tmp_path_factory.mktemp("generated") / "tiny.sqlite"
    return path, generate(path, kernels=KERNELS, seed=3)


@pytest.fixture
def database(made: tuple[Path, Truth]) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(made[0])
    yield connection
    connection.close()


def test_the_file_holds_what_the_truth_says(made: tuple[Path, Truth], database: sqlite3.Connection) -> None:
    truth = made[1]
    for table, rows in truth.rows.items():
        assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (rows,), table
    by_name = database.execute(
        f"SELECT value, count(*), sum(end - start) FROM {KERNEL} JOIN StringIds ON id = demangledName GROUP BY 1"
    ).fetchall()
    assert {name: (n, total) for name, n, total in by_name} == {
        name: (n, truth.kernel_ns[name]) for name, n in truth.kernels.items()
    }
    assert truth.kernels.total() == truth.stages.total() == KERNELS
    copied = database.execute(
        "SELECT copyKind, srcKind, dstKind, sum(bytes) FROM CUPTI_ACTIVITY_KIND_MEMCPY GROUP BY 1, 2, 3"
    )
    assert {row[:3]: row[3] for row in copied} == dict(truth.copy_bytes)
    failed = database.execute(f"SELECT count(*) FROM {RUNTIME} WHERE returnValue != 0").fetchone()[0]
    assert failed == truth.failed_launches > 0


def test_every_table_is_declared_as_in_the_schema(database: sqlite3.Connection) -> None:
    declared = sqlite3.connect(":memory:")
    declared.executescript(SCHEMA.read_text(encoding="utf-8"))
    listed = "SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name"
    expected = dict(declared.execute(listed))
    assert {expected.pop(f"{prefix}GPU_METRICS") for prefix in ("", "TARGET_INFO_")}  # only where metrics were sampled
    assert dict(database.execute(listed)) == expected
    enums = [name for name in expected if name.startswith("ENUM_")]
    for name in enums:
        rows = f"SELECT * FROM {name} ORDER BY id"
        assert database.execute(rows).fetchall() == declared.execute(rows).fetchall() != []
    assert len(enums) > 20
    declared.close()


def test_correlation_ids_collide_between_processes_and_only_there(database: sqlite3.Connection) -> None:
    owners = defaultdict(list)
    for correlation, pid in database.execute(f"SELECT correlationId, globalTid >> 24 FROM {RUNTIME}"):
        owners[correlation].append(pid)
    assert all(len(pids) == len(set(pids)) for pids in owners.values())
    assert sum(len(pids) > 1 for pids in owners.values()) > KERNELS / 10


def test_orphans_are_the_kernels_without_a_launch(made: tuple[Path, Truth], database: sqlite3.Connection) -> None:
    calls = set(database.execute(f"SELECT globalTid >> 24, correlationId FROM {RUNTIME}"))
    kernels = Counter(database.execute(f"SELECT globalPid >> 24, correlationId FROM {KERNEL}"))
    orphans = sum(n for key, n in kernels.items() if key not in calls)
    assert orphans == made[1].stages["(orphan)"] > 0
    nodes = database.execute(
        f"SELECT globalPid, correlationId, count(*) FROM {KERNEL} WHERE graphNodeId > 0 GROUP BY 1, 2"
    ).fetchall()
    assert nodes
    assert all(kernels[pid >> 24, correlation] == n > 1 for pid, correlation, n in nodes)  # one launch, many kernels


def test_no_work_starts_before_its_launch_and_streams_run_in_order(database: sqlite3.Connection) -> None:
    launched = {
        (pid, c): start
        for pid, c, start in database.execute(f"SELECT globalTid >> 24, correlationId, start FROM {RUNTIME}")
    }
    streams = defaultdict(list)
    for table in (KERNEL, "CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_MEMSET"):
        for pid, correlation, stream, start, end in database.execute(
            f"SELECT globalPid >> 24, correlationId, streamId, start, end FROM {table}"
        ):
            assert launched.get((pid, correlation), start) <= start < end
            streams[pid, stream].append((start, end))
    assert len(streams) == 2 * 5
    for ran in streams.values():
        ran.sort()
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(ran))


def test_calls_and_ranges_of_a_thread_nest(database: sqlite3.Connection) -> None:
    """A range may hold calls and ranges, and a call holds nothing: sorted by start, nothing crosses an open end."""
    spans = defaultdict(list)
    for tid, start, end in database.execute("SELECT globalTid, start, end FROM NVTX_EVENTS WHERE eventType = 59"):
        spans[tid].append((start, end))
    for tid, start, end in database.execute(f"SELECT globalTid, start, end FROM {RUNTIME}"):
        spans[tid].append((start, end))
    assert len(spans) == 2 * 3
    for events in spans.values():
        open_ends: list[int] = []
        for start, end in sorted(events, key=lambda e: (e[0], -e[1])):
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1]
            open_ends.append(end)


def test_ranges_have_both_domains_under_other_numbers_in_each_process(database: sqlite3.Connection) -> None:
    created = database.execute(
        "SELECT globalTid >> 24, domainId, text FROM NVTX_EVENTS WHERE eventType = 75"
    ).fetchall()
    names = {(pid, domain): text for pid, domain, text in created}
    assert len({tuple(sorted(d for (p, d), t in names.items() if p == pid and t == "NCCL")) for pid, _ in names}) == 2
    used = database.execute(
        "SELECT DISTINCT globalTid >> 24, domainId, value FROM NVTX_EVENTS JOIN StringIds ON id = textId WHERE eventType = 59"
    )
    by_domain = defaultdict(set)
    for pid, domain, text in used:
        by_domain[names[pid, domain]].add(text)
    assert by_domain["NCCL"] == {"ncclAllReduce", "ncclReduceScatter"}
    assert {"step", "load", "forward", "layer0", "attention", "mlp", "backward", "optimizer", "prefetch"} <= by_domain[
        "aisp"
    ]


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(made: tuple[Path, Truth], tmp_path: Path) -> None:
    again, other = tmp_path / "again.sqlite", tmp_path / "other.sqlite"
    assert generate(again, kernels=KERNELS, seed=3) == made[1]
    assert again.read_bytes() == made[0].read_bytes()
    assert generate(other, kernels=KERNELS, seed=4).kernel_ns != made[1].kernel_ns


def test_rows_are_nearly_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aisp_trace.benchmarks.export_file.SWAPS_PER_ROWS", 100)
    path = tmp_path / "swapped.sqlite"
    truth = generate(path, kernels=KERNELS)
    connection = sqlite3.connect(path)
    starts = [start for (start,) in connection.execute(f"SELECT start FROM {KERNEL} ORDER BY rowid")]
    connection.close()
    found = sum(after < before for before, after in itertools.pairwise(starts))
    assert found == truth.inversions[KERNEL]
    assert 1 <= found <= KERNELS / 20


def test_counters_follow_the_kernels(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sqlite"
    truth = generate(path, kernels=500, processes=2, devices=1, gpu_metrics_hz=10_000)
    connection = sqlite3.connect(path)
    values = connection.execute(
        "SELECT typeId & 255, timestamp, value FROM GPU_METRICS JOIN TARGET_INFO_GPU_METRICS USING (typeId, metricId) "
        "WHERE metricName LIKE 'GR Active%' ORDER BY timestamp"
    ).fetchall()
    connection.close()
    assert {device for device, _, _ in values} == {0}
    assert np.diff([time for _, time, _ in values]).tolist() == [100_000] * (len(values) - 1)
    assert len(values) == pytest.approx(truth.end_ns / 100_000, abs=5)
    assert values[0][2] == 0  # before the first kernel
    assert max(value for _, _, value in values) > 80


def test_shapes_add_up() -> None:
    for kernels in (40, 41, 99, 1_000):
        for share in (0.0, 0.1, 0.5):
            shape = Shape.of(kernels, share)
            assert shape.total == kernels
            assert shape.graph == round(kernels * share)
            assert min(shape.forward, shape.backward, shape.optimizer, shape.collectives, shape.layers) >= 1


@pytest.mark.parametrize("size", [112, 113, 1_000])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_any_number_of_kernels_is_exact(tmp_path: Path, size: int, share: float) -> None:
    assert generate(tmp_path / "x.sqlite", kernels=size, graph_share=share).rows[KERNEL] == size


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kernels", "111"], "at least 112"),
        (["--devices", "3"], "3 devices do not fit 2 processes"),
        (["--graph-share", "0.6"], "between 0 and 0.5"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main([str(tmp_path / "x.sqlite"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x.sqlite").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.sqlite"
    path.write_text("mine")
    assert main([str(path), "--kernels", "500"]) == 2
    assert path.read_text() == "mine"


@pytest.mark.skipif(shutil.which("nsys") is None, reason="nsys is not installed")
def test_nsys_stats_agrees_with_the_truth(made: tuple[Path, Truth], tmp_path: Path) -> None:
    """The kernel summary of whatever nsys is there; its columns are found by name."""
    path = tmp_path / "copy.sqlite"  # nsys may write beside its input
    shutil.copyfile(made[0], path)
    offered = subprocess.run(["nsys", "stats", "--help-reports"], capture_output=True, text=True).stdout
    report = "cuda_gpu_kern_sum" if "cuda_gpu_kern_sum" in offered else "gpukernsum"
    command = ["nsys", "stats", "--report", report, "--format", "csv", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    table = text[text.index("Time (%)") :]
    counts: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for row in csv.DictReader(io.StringIO(table)):
        counts[row["Name"]] += int(row["Instances"])
        times[row["Name"]] += int(row["Total Time (ns)"])
    assert (counts, times) == (made[1].kernels, made[1].kernel_ns)


def test_the_reader_and_the_analysis_find_the_planted_stages(made: tuple[Path, Truth]) -> None:
    trace = open_trace(made[0])
    truth = made[1]
    assert trace.ops.height == sum(
        truth.rows[t] for t in (KERNEL, "CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_MEMSET")
    )
    assert trace.api.height == truth.rows[RUNTIME]
    found: Counter[str] = Counter()
    for row in analyze(trace).stage_kinds.iter_rows(named=True):
        if row["kind"] in ("compute", "comm") and row["path"] in truth.stages:
            found[row["path"]] += row["ops"]
    inside = {path: n for path, n in truth.stages.items() if path.startswith("step/")}
    assert {path: found[path] for path in inside} == inside


def test_a_stream_runs_in_order() -> None:
    """
    ready     0    10        20   21
    lasts     5    30        2    2
    ran       |####|    |##############################|.|##|.|##|    (one nanosecond between pieces)
    """
    stream = Stream(7, (1, 1))
    start, end = stream.run(np.array([[[0, 10, 20, 21]]]), np.array([1, 1, 1, 1]), np.array([5, 30, 2, 2]))
    assert start.tolist() == [[[1, 10, 41, 44]]]
    assert end.tolist() == [[[6, 40, 43, 46]]]
    assert stream.free.tolist() == [[46]]


def test_the_scan_covers_every_event(made: tuple[Path, Truth]) -> None:
    assert {table: rows for table, (rows, _) in scan(str(made[0])).items()} == {t: made[1].rows[t] for t in TABLES}


def test_a_process_is_measured_alone() -> None:
    program = "import sys, time; b = bytearray(150_000_000); time.sleep(0.2); print('done'); sys.exit(3)"
    cost = measure([sys.executable, "-c", program], {})
    assert cost.exit_code == 3
    assert cost.output == "done\n"
    assert cost.wall_s >= 0.2
    assert 0 < cost.cpu_s < cost.wall_s, "it slept"
    assert cost.peak_bytes > 150_000_000
    assert measure([sys.executable, "-c", "import time; time.sleep(1000)"], {}, timeout_s=0.1).exit_code == -9


def test_the_peak_of_one_process_is_not_that_of_the_one_before() -> None:
    """In a small process of its own: a child's high-water mark is never below its parent's."""
    program = (
        "import sys; from aisp_trace.benchmarks.measure import measure; "
        "large = measure([sys.executable, '-c', 'b = bytearray(150_000_000)'], {}).peak_bytes; "
        "small = measure([sys.executable, '-c', 'pass'], {}).peak_bytes; "
        "sys.exit(0 if small < 100_000_000 < large else 1)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0


def test_a_ratio_is_formed_inside_its_round() -> None:
    """In the second round the machine was five times slower: ratios 2, 2 and 4, although the medians have ratio 4."""

    def costs(*walls: float) -> list[Cost | None]:
        return [Cost(w, w, 100 << 20, 0, "", "") for w in walls]

    scanned = Series(1_000_000, "scan", (), costs(1, 5, 1))
    analyzed = Series(1_000_000, COLD, (), costs(2, 10, 4))
    silent = Series(1_000_000, "nsys", (), [*costs(1, 1), None], proof="Total Time")
    assert analyzed.ratio_to(scanned) == 2
    assert analyzed.ratio_to(silent) is None
    page = results([scanned, analyzed, silent], [400.0, 500.0], 3).splitlines()
    assert "| 1,000,000 | analyze --no-cache | 4.00 (2.00 to 10.00) | 4.00 | 100 | 2.0 |" in page
    assert "| 1,000,000 | nsys | failed, exit 0 |  |  |  |" in page
    assert "| analyze --no-cache: at most 8 scans | 1,000,000 | met |" in page
    assert "| analyze --no-cache: under nsys' kernel summary | 1,000,000 | not measured |" in page
    assert "| analyze --no-cache: at most 5 scans | 10,000,000 | not measured |" in page


def test_what_was_generated_is_frozen_as_plain_values(made: tuple[Path, Truth]) -> None:
    plain = MappingProxyType(dict(made[1].to_json()))
    assert plain["rows"][KERNEL] == KERNELS
    assert set(plain["copy_bytes"]) >= {"1:0:2", "1:1:2", "2:2:1", "8:2:2", "2:2:0"}
