"""What is kept of a rank: its sums, its way to disk and back, and who it says it is."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.attribution.steady import Seeking
from aisp_trace.analyze.ranks import partials
from aisp_trace.analyze.ranks.job import job_of
from aisp_trace.analyze.ranks.look import Look
from aisp_trace.analyze.ranks.make import ranks_of
from aisp_trace.analyze.ranks.rank import Rank, rank_in_name
from aisp_trace.expectations.metrics.registry import METRICS
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.model import Trace
from aisp_trace.traces.open import open_trace

SAMPLES = Path(__file__).parents[1] / "traces" / "samples"


@pytest.fixture(scope="module")
def ddp() -> Trace:
    return open_trace(SAMPLES / "h200x2_ddp.sqlite.xz")


@pytest.fixture(scope="module")
def two(ddp: Trace) -> list[Rank]:
    return ranks_of(ddp, Look(), "clock")


def test_the_ledger_of_a_partial_is_that_of_analyze(ddp: Trace, two: list[Rank]) -> None:
    whole = analyze(ddp, seeking=Seeking(as_window=True)).ledger
    for device, rank in enumerate(two):
        own = rank.table("ledger")
        assert own["ns"].sum() == rank.window[1] - rank.window[0]
        expected = (
            whole.filter(pl.col("device") == device).group_by("stage", "category", "cause").agg(pl.col("ns").sum())
        )
        found = own.group_by("stage", "category", "cause").agg(pl.col("ns").sum())
        keys = ["stage", "category", "cause"]
        assert found.sort(keys).equals(expected.sort(keys))


def test_exposed_pieces_are_the_ledgers_communication(two: list[Rank]) -> None:
    for rank in two:
        pieces = rank.table("exposed")
        length = pieces["end_ns"] - pieces["start_ns"]
        iteration = rank.table("collectives")["iteration"].gather(pieces["collective"])
        summed = pl.DataFrame({"iteration": iteration, "ns": length}).group_by("iteration").agg(pl.col("ns").sum())
        cells = rank.table("ledger").filter(pl.col("category") == "comm")
        expected = cells.group_by("iteration").agg(pl.col("ns").sum())
        assert expected["ns"].sum() > 300_000
        assert summed.sort("iteration").equals(expected.sort("iteration"))
        assert (length > 0).all()
        assert (pieces["start_ns"][1:] >= pieces["end_ns"][:-1]).all(), "disjoint, in order of time"


def test_only_whole_iterations_count(two: list[Rank]) -> None:
    """Rank 0's second iteration ends 25 us after rank 1's third began, where their common window does."""
    assert [rank.table("iterations")["iteration"].to_list() for rank in two] == [[2, 3, 4, 5]] * 2


def test_to_disk_and_back(two: list[Rank], tmp_path: Path) -> None:
    for rank in two:
        file = partials.place(Path("some/train.sqlite"), rank, tmp_path)
        partials.put(partials.content(rank, {"what": "it is of"}), file)
        back = partials.read(file)
        assert replace(back, tables={}) == replace(rank, tables={})
        assert all(back.table(name).equals(rank.table(name)) for name in rank.tables)
        assert file.stat().st_size < 20_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["train-clock.0.aisp-rank", "train-clock.1.aisp-rank"]


@pytest.mark.parametrize(
    "damage", ["empty", "cut", "no zip", "other schema", "fewer rows", "no table", "too many rows"]
)
def test_what_is_no_partial_is_one_sentence(two: list[Rank], tmp_path: Path, damage: str) -> None:
    file = tmp_path / "x.aisp-rank"
    partials.put(partials.content(two[0], {}), file)
    whole = file.read_bytes()
    if damage in ("empty", "cut", "no zip"):
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "no zip": b"PK" + bytes(100)}[damage])
    else:
        with zipfile.ZipFile(file) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        head = json.loads(members["partial.json"])
        head["schema"] = "aisp-trace/partial/99" if damage == "other schema" else head["schema"]
        head["rows"] |= {"ledger": 1} if damage == "fewer rows" else {}
        members["partial.json"] = json.dumps(head).encode()
        if damage == "too many rows":  # a constant column: 20 million rows in some kilobytes
            many = io.BytesIO()
            pl.select(x=pl.repeat(0, 20_000_000, dtype=pl.Int8)).write_parquet(many, compression="zstd")
            assert len(many.getvalue()) < 200_000
            members["ledger.parquet"] = many.getvalue()
            head["rows"]["ledger"] = 20_000_000
            members["partial.json"] = json.dumps(head).encode()
        if damage == "no table":
            del members["exposed.parquet"]
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    with pytest.raises(InputError, match="make it again") as told:
        partials.read(file)
    assert "\n" not in str(told.value)


def test_torchs_sequence_number_is_read(tmp_path: Path) -> None:
    said = {"Collective name": "allreduce", "Group size": 2, "Process Group Name": "0", "stream": 7, "device": 0}
    events = [
        {
            "ph": "X",
            "cat": "kernel",
            "name": "ncclDevKernel_AllReduce",
            "pid": 0,
            "tid": 7,
            "ts": 10 * i,
            "dur": 5,
            "args": args,
        }
        for i, args in enumerate([{**said, "Seq": 41}, said, {**said, "Seq": "x"}])
    ]
    file = tmp_path / "trace.json"
    file.write_text(json.dumps({"traceEvents": events}), encoding="utf-8")
    assert open_trace(file).comms["seq"].to_list() == [41, None, None]


def test_claims_may_name_the_job_of_one_recording(ddp: Trace, two: list[Rank]) -> None:
    whole = analyze(ddp, seeking=Seeking(as_window=True))
    found = {name: METRICS[f"job.{name}"].read(whole, None, None).total for name in job_of(two).metrics}
    assert found == job_of(two).metrics
    assert found["straggler_share"] == pytest.approx(1_590_188 / sum(step.ns for step in job_of(two).steps))
    alone = analyze(open_trace(SAMPLES / "h200_graphs.sqlite.xz"))
    assert METRICS["job.skew"].read(alone, None, None).absent == "no ranks that communicate"


def test_who_a_rank_is(ddp: Trace) -> None:
    assert [(r.identity.rank, r.identity.source) for r in ranks_of(ddp, Look(), "c")] == [
        (0, "device order"),
        (1, "device order"),
    ]
    one = open_trace(SAMPLES / "h200x2_two_processes.sqlite.xz")
    (alone,) = ranks_of(replace(one, meta=replace(one.meta, file="node.rank-012.sqlite")), Look(skip=1), "c")
    assert (alone.identity.rank, alone.identity.source) == (12, "file name")
    said = {**one.meta.capture, "rank": "5", "world_size": "8"}
    (alone,) = ranks_of(replace(one, meta=replace(one.meta, file="rank3.json", capture=said)), Look(skip=1), "c")
    assert (alone.identity.rank, alone.identity.world_size, alone.identity.source) == (5, 8, "torch")


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("rank3.sqlite", 3),
        ("train_rank_007.nsys-rep", 7),
        ("a.RANK-12.json", 12),
        ("frank9.json", None),
        ("rank1_of_rank8.json", None),
        ("ranks.json", None),
        ("report3.sqlite", None),
    ],
)
def test_rank_in_a_files_name(name: str, rank: int | None) -> None:
    assert rank_in_name(name) == rank
