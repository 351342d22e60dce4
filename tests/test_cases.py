"""Situations that people reported in public, reduced to a few events each: the right answer to every one of ``tests/cases``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.test_kineto_reader import event, written

CASES = Path(__file__).parent / "cases"
KINETO = CASES / "kineto"
NSYS = CASES / "nsys"


def case(name: str) -> Path:
    (file,) = [f for folder in (KINETO, NSYS) for f in folder.iterdir() if f.name.startswith(name)]
    return file


class Seen:
    """What `analyze` prints of a trace, in words and as JSON."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        capsys.readouterr()
        self.code = main(["analyze", *words])
        caught = capsys.readouterr()
        self.text, self.error = " ".join(caught.out.split()), " ".join(caught.err.split())
        self.json: dict[str, Any] = {}
        if self.code == 0:
            assert main(["analyze", *words, "--json"]) == 0
            self.json = json.loads(capsys.readouterr().out)["traces"][0]

    def trust(self, metric: str) -> tuple[str, str]:
        found = self.json["trust"][metric]
        return found["level"], found["reason"]

    def cells(self) -> list[dict[str, Any]]:
        return [cell for device in self.json["ledger"] for cell in device["cells"]]

    def idle(self) -> dict[str, int]:
        out: dict[str, int] = {}
        for cell in self.cells():
            if cell["category"] == "idle":
                out[cell["cause"]] = out.get(cell["cause"], 0) + cell["ns"]
        return out

    def kernels(self) -> int:
        return sum(row["kernels"] for row in self.json["kernels"] if row["stage"] is None)


READ = ("05", "06", "07", "08", "09", "10", "13", "14", "15", "20", "29")


@pytest.mark.parametrize("number", READ)
def test_every_form_of_a_torch_trace_is_read(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters, bare lists, lists that are not closed, bytes that are not text, numbers as text, begin and end events,
    byte order marks: six kernels of 60 us, and nothing in doubt."""
    seen = Seen(capsys, str(case(f"{number}_")))
    assert (seen.code, seen.kernels()) == (0, 6)
    assert seen.trust("ledger") == ("ok", "")
    compute = sum(cell["ns"] for cell in seen.cells() if cell["category"] == "compute")
    assert compute in (360_000, 360_750)  # those of 09 have decimals


def test_asynchronous_events_are_named_as_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = [{"ph": p, "cat": "c", "name": "n", "id": 1, "ts": i, "pid": 1, "tid": 1} for i, p in enumerate("bebe")]
    seen = Seen(capsys, str(written(tmp_path, alone)))
    assert seen.code == 2 and "events that are not read: phase b (2), phase e (2)" in seen.error
    beside = Seen(capsys, str(written(tmp_path, [*alone, event("kernel", "k", 1, 1, 0, 7, device=0, stream=7)])))
    assert beside.code == 0 and "events that are not read: phase b (2), phase e (2)" in beside.text


def test_counters_and_other_phases_are_named_as_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counted = [{"ph": "C", "name": "SM active", "ts": i, "pid": 0, "args": {"%": i}} for i in range(4)]
    arrows = [{"ph": p, "cat": "ac2g", "name": "ac2g", "id": 1, "ts": 1, "pid": 1, "tid": 1} for p in "sf"]
    kernel = event("kernel", "k", 1, 1, 0, 7, device=0, stream=7)
    seen = Seen(capsys, str(written(tmp_path, [*counted, *arrows, {"ph": "P", "name": "s", "ts": 1}, kernel])))
    assert "events that are not read: phase C (4), phase P (1)" in seen.text


def allocated(device_type: int, device: int) -> list[dict[str, Any]]:
    """A kernel, and ten tensors of 1 MiB each."""
    args = {"Device Type": device_type, "Device Id": device, "Bytes": 1 << 20}
    events = [
        {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "ts": i, "pid": 5, "tid": 10, "args": args}
        for i in range(10)
    ]
    launch = event("cuda_runtime", "cudaLaunchKernel", 0, 1, 5, 10, correlation=1)
    return [*events, launch, event("kernel", "k", 0, 20, 0, 7, device=0, stream=7, correlation=1)]


@pytest.mark.parametrize("device_type", [1, 6, 12, 20], ids=["CUDA", "HIP", "XPU", "PrivateUse1"])
def test_every_kind_of_device_has_its_memory(
    device_type: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = Seen(capsys, str(written(tmp_path, allocated(device_type, 0))))
    assert [(row["device"], row["peak_bytes"]) for row in seen.json["memory"]] == [(0, 10 << 20)]


def test_memory_of_the_host_alone_is_unread_not_unrecorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(written(tmp_path, allocated(0, -1))))
    assert seen.json["memory"] == [] and "events that are not read: [memory] of the host (10)" in seen.text
    assert "memory events are those of the host, which are not read" in seen.trust("allocator")[1]


def test_quotes_in_a_name_are_mended_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("04_")))
    assert (seen.code, seen.kernels()) == (0, 6)
    assert "1 event was not valid JSON and had to be repaired: unescaped quotes or backslashes (1)" in seen.text
    names = Seen(capsys, str(case("04_")), "--domain", "torch.python").json["stages"]
    assert [row["path"] for row in names] == ['{"device": "cpu"}(12): run']


def test_a_negative_duration_is_dropped_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("02_")))
    assert seen.kernels() == 6 and "(api end before start)" in seen.trust("ledger")[1]


@pytest.mark.parametrize("number", ["18", "19"])
def test_what_ends_early_is_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case(f"{number}_")))
    assert seen.code == 2 and ("not complete JSON" in seen.error or "it is damaged" in seen.error)


def test_other_profilers_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("16_")))
    assert seen.code == 2 and "it is one of JAX or TensorFlow" in seen.error
    assert str(case("16_")) in seen.error, "not a temporary file"


def test_why_there_are_no_device_operations(capsys: pytest.CaptureFixture[str]) -> None:
    assert "6 of 6 launches have no device row" in Seen(capsys, str(case("11_"))).text
    nameless = Seen(capsys, str(case("17_")))
    assert "6 rows name no device" in nameless.text and "were lost" not in nameless.text
    counted = Seen(capsys, str(case("28_")))
    assert "collected counters over 6 ranges instead" in counted.text and "were lost" not in counted.text
    assert "events that are not read: cuda_profiler_range (6)" in counted.text


def test_a_graph_replay_is_one_launch(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("12_")))
    assert seen.idle()["graph_internal"] > 0
    assert "5 operations of CUDA graphs count for the stage that replays them" in seen.trust("projection")[1]


def test_memory_events_are_the_allocators_memory(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("21_")))
    (memory,) = seen.json["memory"]
    assert (memory["device"], memory["kind"], memory["peak_bytes"]) == (0, "device", 4 << 28)
    assert "PyTorch memory" in seen.text and "were not recorded" not in seen.text
    assert seen.trust("allocator")[0] == "ok"


def test_recordings_of_unequal_length_are_compared_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(case("22_steps3")), str(case("22_steps5"))]) in (0, 3)
    said = " ".join(capsys.readouterr().out.split())
    assert "all times are those of one iteration" in said and "kernels run 1.50x faster" in said


def test_ranks_that_are_absent_leave_doubt(capsys: pytest.CaptureFixture[str]) -> None:
    alone = Seen(capsys, str(case("23_rank0")))
    assert alone.trust("comm")[0] == "partial"
    assert [row["group_size"] for row in alone.json["collectives"]] == [8]
    both = Seen(capsys, str(case("23b_")))
    assert both.trust("comm") == ("ok", "")


def test_two_ranks_of_a_group_of_eight_are_partial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same two ranks fit each other as well as before."""
    text = (
        case("23b_")
        .read_text()
        .replace('"Group size": 2', '"Group size": 8')
        .replace("[0, 1]", "[0, 1, 2, 3, 4, 5, 6, 7]")
    )
    (tmp_path / "t.json").write_text(text)
    seen = Seen(capsys, str(tmp_path / "t.json"))
    assert [(row["paired"], row["absent"]) for row in seen.json["collectives"]] == [(8, 8), (8, 8)]
    level, reason = seen.trust("comm")
    assert level == "partial" and "16 of 16 are of groups of up to 8 ranks, not all of which are in the trace" in reason


def test_collectives_are_what_torch_calls_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Old NCCL calls every kernel SendRecv."""
    seen = Seen(capsys, str(case("24_")))
    assert seen.trust("comm") == ("ok", "")
    assert [(row["paired"], row["ranks"]) for row in seen.json["collectives"]] == [(8, 2), (8, 2)]


def test_groups_that_share_a_stream_are_paired_each_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ranks 0 and 1 reduce with each other, and with absent ranks in between, on one stream each."""
    events = []
    for rank in (0, 1):
        for i in range(12):
            at, ours = 1_000 * i + (40 * rank if i % 2 else 0), i % 2 == 1
            ranks = "[0, 1]" if ours else f"[{rank}, {rank + 2}]"
            args = {"device": rank, "stream": 20, "correlation": i + 1, "Collective name": "allreduce", "Group size": 2}
            args |= {"Process Group Ranks": ranks, "In msg nelems": 1024, "dtype": "Float"}
            events.append(
                event("kernel", "ncclKernel_SendRecv", at, 500 - (40 * rank if ours else 0), rank, 20, **args)
            )
    seen = Seen(capsys, str(written(tmp_path, events)))
    assert [(r["ops"], r["paired"], r["comm_wait_ns"]) for r in seen.json["collectives"]] == [
        (12, 6, 240_000),
        (12, 6, 0),
    ]


def test_intels_copies_have_a_direction(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("26_")))
    assert sorted(row["kind"] for row in seen.json["bandwidth"]) == ["d2h", "h2d"]
    assert seen.trust("bytes")[0] == "ok"


def test_the_time_of_day_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    from aisp_trace.traces.open import open_trace

    bases = [open_trace(case(f"30_rank{i}")).meta.capture["base_time_ns"] for i in (0, 1)]
    assert bases == ["1700000000000000000", "1700000005000000000"]
    assert open_trace(case("23_rank1")).meta.capture["rank"] == "1"
    assert open_trace(case("23_rank1")).meta.capture["world_size"] == "8"


def test_work_that_is_not_in_the_file_is_not_the_hosts_fault(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("32_")))
    assert seen.trust("causes")[0] == "partial"
    assert "DOUBT: 1 operation begins up to 463 ms after the launch returned" in seen.text
    assert "Unexplained idle time: 99.8 %" in seen.text and "Waiting for the host" not in seen.text
    assert seen.idle()["unknown"] > 463_000_000


def test_unknown_is_never_host_bound(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("33_")))
    assert [row["host_bound_ns"] for row in seen.json["kernels"] if row["stage"] is None] == [0]
    assert "Waiting for the host" not in seen.text


# -- nsys --------------------------------------------------------------------------------------------------------------


def test_kernels_before_their_own_launch(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("c02")))
    assert seen.trust("causes")[0] == seen.trust("latency")[0] == "unavailable"
    assert seen.trust("ledger")[0] == "ok", "what the device did is beyond doubt"
    assert seen.text.index("DOUBT: 20 of 20 operations begin before the call") < seen.text.index("What is slow")
    assert "Waiting for the host" not in seen.text


def test_a_few_early_kernels_lower_trust_a_little(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = NsysExport()
    for i in range(20):
        at = i * 100_000
        export.call(at, at + 5_000, "cudaLaunchKernel", correlationId=i + 1)
        export.kernel(at - 30_000 if i in (4, 9, 14) else at + 10_000, at + 60_000, correlationId=i + 1)
    seen = Seen(capsys, str(export.write(tmp_path / "t.sqlite")))
    (odd,) = seen.json["oddities"]
    assert (odd["what"], odd["rows"], odd["of"], odd["level"]) == ("early", 3, 20, "partial")
    assert "by up to 30.0 us" in odd["text"]


def test_a_launch_recorded_twice_is_one_launch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = NsysExport()
    for i in range(20):
        at = i * 100_000
        for again in range(2):
            export.call(at + again, at + 5_000, "cudaLaunchKernel", correlationId=i + 1)
        export.kernel(at + 10_000, at + 60_000, correlationId=i + 1)
    seen = Seen(capsys, str(export.write(tmp_path / "t.sqlite")))
    assert [(row["launches"], row["missing"]) for row in seen.json["launch_rows"]] == [(40, 0)]
    assert [odd["what"] for odd in seen.json["oddities"]] == ["twice"]
    assert seen.trust("ledger")[0] == "ok" and seen.trust("causes")[0] == "partial"


def test_only_the_process_that_lost_everything_is_in_doubt(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("c14")))
    assert "MISSING: 20 of 20 launches of process 101" in seen.text
    assert {metric for metric in ("ledger", "causes", "overlap", "bytes") if seen.trust(metric)[0] != "ok"} == set()
    level, reason = seen.trust("processes")
    assert level == "partial" and "process 101 launched 20 times, and none of these operations was recorded" in reason


def test_a_process_that_lost_some_is_in_doubt_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = NsysExport()
    for i in range(20):
        at = i * 100_000
        export.call(at, at + 5_000, "cudaLaunchKernel", correlationId=i + 1)
        if i not in (3, 4, 5):
            export.kernel(at + 10_000, at + 60_000, correlationId=i + 1)
    seen = Seen(capsys, str(export.write(tmp_path / "t.sqlite")))
    assert "3 of 20 launches have no device row: operations were lost" in seen.trust("ledger")[1]


def test_launches_at_the_end_may_not_have_run_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = NsysExport()
    for i in range(20):
        at = i * 100_000
        export.call(at, at + 5_000, "cudaLaunchKernel", correlationId=i + 1)
        if i < 16:
            export.kernel(at + 10_000, at + 60_000, correlationId=i + 1)
    seen = Seen(capsys, str(export.write(tmp_path / "t.sqlite")))
    assert [(row["missing"], row["pending"]) for row in seen.json["launch_rows"]] == [(4, 4)]
    level, reason = seen.trust("ledger")
    assert level == "partial" and "the recording ended before they ran" in reason and "were lost" not in reason


def test_processes_that_name_one_device_may_mean_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def export(**mapped: int) -> NsysExport:
        made = NsysExport()
        for pid in (100, 101):
            made.call(0, 5_000, "cudaLaunchKernel", pid=pid, tid=pid).kernel(10_000, 60_000, pid=pid)
            if mapped:
                made.add("TARGET_INFO_CUDA_DEVICE", gpuId=mapped[f"gpu{pid}"], cudaId=0, pid=pid)
        return made

    doubted = Seen(capsys, str(export().write(tmp_path / "a.sqlite")))
    assert [odd["what"] for odd in doubted.json["oddities"]] == ["shared"]
    assert doubted.trust("ledger")[0] == "partial" and "CUDA_VISIBLE_DEVICES" in doubted.text
    for name, gpus in (("b", (0, 1)), ("c", (0, 0))):
        known = export(gpu100=gpus[0], gpu101=gpus[1])
        seen = Seen(capsys, str(known.write(tmp_path / f"{name}.sqlite")))
        assert seen.json["oddities"] == [] and len(seen.json["devices"]) == len(set(gpus))


def test_clocks_of_ranks_that_disagree_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("c13")))
    level, reason = seen.trust("comm")
    assert level == "partial" and "devices 0 and 1 run the same 20 collectives 300 us apart" in reason


def test_managed_memory_is_neither_lost_nor_hidden_nor_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(capsys, str(case("c06")))
    assert [
        (row["ops"], row["stall_ns"], row["exposed_ns"]) for row in seen.json["migrations"] if row["stage"] is None
    ] == [(150, 500_000, 250_000)]
    assert seen.idle()["page_fault"] == 40_000 + 49 * 15_000 and seen.idle().get("unknown", 0) == 0
    assert seen.trust("causes")[0] == "ok" and "Unified-memory migrations" in seen.text


def test_times_that_nobody_took_make_no_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two rows at time 0 beside a recording of today: 54 years, by their times."""
    events = [
        event("kernel", "k", f"{1_700_000_000_000_000 + i * 100}.000", 50, 0, 7, device=0, stream=7) for i in range(20)
    ]
    events += [event("kernel", "k", 0, 50, 0, 7, device=0, stream=7) for _ in range(2)]
    seen = Seen(capsys, str(written(tmp_path, events)))
    (ledger,) = seen.json["ledger"]
    assert seen.kernels() == 20
    assert "2 rows could not be used (ops out of range)" in seen.trust("ledger")[1]
    assert ledger["window"]["end_ns"] - ledger["window"]["start_ns"] < 10_000_000


def seconds_away(*kernels_at: int, api: bool = False, first_ns: int = 500 * 10**9) -> NsysExport:
    """20 kernels within 2 ms at 500 s, and one at each of `kernels_at`, which no call launched; with `api`, calls near these."""
    export = NsysExport()
    for i in range(20):
        at = first_ns + i * 100_000
        export.call(at, at + 5_000, "cudaLaunchKernel", correlationId=i + 1)
        export.kernel(at + 10_000, at + 60_000, correlationId=i + 1)
    for at in kernels_at:
        export.kernel(at, at + 50, correlationId=900)
        if api:
            export.call(at + 10**9, at + 10**9 + 5_000, "cudaMalloc", correlationId=901)
    return export


@pytest.mark.parametrize("kernels_at", [(0, 0), (0,), (4_100 * 10**9,), (0, 4_100 * 10**9)], ids=str)
def test_times_far_from_the_rest_are_doubted(
    kernels_at: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within what a recording may span. The window that the doubt names leaves them out."""
    file = seconds_away(*kernels_at).write(tmp_path / "t.sqlite")
    seen = Seen(capsys, str(file))
    (odd,) = seen.json["oddities"]
    assert (odd["what"], odd["rows"], odd["of"]) == ("far", len(kernels_at), 20 + len(kernels_at))
    assert f"DOUBT: {len(kernels_at)} of {20 + len(kernels_at)} operations of device 0 (gemm)" in seen.text
    assert seen.trust("ledger")[0] == seen.trust("causes")[0] == "partial"
    inside = Seen(capsys, str(file), *odd["text"].split("`")[1].split())
    assert inside.json["oddities"] == [] and inside.kernels() == 20
    assert sum(cell["ns"] for cell in inside.cells() if cell["category"] == "compute") == 20 * 50_000


def test_a_device_whose_operations_take_no_time_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = seconds_away()
    for _ in range(2):
        export.kernel(499 * 10**9, 499 * 10**9, deviceId=3, correlationId=950)
    seen = Seen(capsys, str(export.write(tmp_path / "t.sqlite")))
    (odd,) = seen.json["oddities"]
    assert (odd["what"], odd["rows"], odd["of"]) == ("instant", 2, 22)
    assert "2 of 22 operations are left out: all of device 3 take no time, at one instant" in odd["text"]
    assert seen.trust("ledger")[0] == "partial" and seen.kernels() == 20


def test_a_start_long_before_the_work_is_no_wrong_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Calls were recorded near it; or it is of an ordinary recording, that waits as long as it works."""
    for name, export in (
        ("calls", seconds_away(0, api=True)),
        ("near", seconds_away(500 * 10**9 - 10_000_000)),
    ):
        assert Seen(capsys, str(export.write(tmp_path / f"{name}.sqlite"))).json["oddities"] == []
    launched = (
        seconds_away().call(0, 5_000, "cudaLaunchKernel", correlationId=900).kernel(9_000, 9_050, correlationId=900)
    )
    assert Seen(capsys, str(launched.write(tmp_path / "t.sqlite"))).json["oddities"] == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("c03", "model\\/attn"),
        ("c04", "ranges of other NVTX domains: myapp (5); --domain myapp makes them the stages"),
        ("c05_a", "20 iterations `training_step_#`"),
        ("c10", "still open when recording stopped"),
        ("c11", "Copies that nothing hides"),
        ("c16", "aten::linear"),
        ("c17", "10 iterations `step`"),
        ("c18", "Waiting for data"),
    ],
)
def test_the_other_situations_stay_right(number: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in Seen(capsys, str(case(number))).text


def test_truncated_exports_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("c12_cut.", "c12_cut60"):
        seen = Seen(capsys, str(case(name)))
        assert seen.code == 2 and "truncated" in seen.error


def test_hosts_with_equal_numbers_are_two_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert [device["device"] for device in Seen(capsys, str(case("c08"))).json["devices"]] == [0, 256]
