"""Measuring links: the program with a machine of known speeds and with a fake CUDA, and how its answer is kept."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aisp_trace.capture import calibrate as keeping
from aisp_trace.capture import host
from aisp_trace.capture.processes import Finished
from aisp_trace.cli import main
from aisp_trace.traces import places
from aisp_trace.traces.calibration import CalibratedDevice, Calibration, Costs, Link, load_calibration, load_measured
from aisp_trace.traces.errors import InputError, UsageError, WorkloadError
from aisp_trace.traces.run import Hardware, write_json

torch = pytest.importorskip("torch")

from aisp_trace.workloads import calibration as program  # noqa: E402  (imports torch)
from aisp_trace.workloads import graph_costs  # noqa: E402

LATENCY_S = 2e-6
SPEED = {"h2d": 50e9, "d2h": 40e9, "d2d": 2e12, "p2p": 400e9}


class FakeCopies:
    """A copy takes a constant plus its bytes over the route's speed; every fifth repetition takes 10 % longer."""

    def __init__(self, route: program.Route, largest: int) -> None:
        self.largest = largest
        self._speed = SPEED[route.kind] / (10 if route.memory == "pageable" else 1)
        self._asked = 0

    def seconds(self, nbytes: int, copies: int) -> float:
        self._asked += 1
        return copies * (LATENCY_S + nbytes / self._speed) * (1.1 if self._asked % 5 == 0 else 1.0)


class FakeMachine:
    """Some GPUs, with room for copies of `room` bytes."""

    def __init__(self, gpus: int, room: int = 1 << 30) -> None:
        self._gpus, self._room = gpus, room

    def devices(self) -> list[CalibratedDevice]:
        return [CalibratedDevice(i, "NVIDIA H200", 150 * 10**9, None) for i in range(self._gpus)]

    def direct(self, src: int, dst: int) -> bool:
        return src < dst

    def copies(self, route: program.Route, largest: int) -> FakeCopies:
        return FakeCopies(route, min(largest, self._room))

    def against(self, route: program.Route, other: program.Route, largest: int) -> FakeCopies:
        copies = FakeCopies(route, min(largest, self._room))
        vars(copies)["_speed"] *= 0.9 if route.kind == "h2d" else 0.8
        assert other.kind == {"h2d": "d2h", "d2h": "h2d"}[route.kind]
        return copies

    def costs(self, device: int) -> Costs:
        return Costs(device, 4_000 + device, 460)

    def facts(self) -> dict[str, Any]:
        return {"torch": "2.11.0", "cuda": "13.0"}


def test_sizes_are_4_kib_to_1_gib() -> None:
    assert program.SIZES[0] == 4 << 10
    assert program.SIZES[-1] == 1 << 30
    assert len(program.SIZES) == 10


def test_every_route_is_measured() -> None:
    found = program.calibrate(FakeMachine(2))
    assert [link.name for link in found.links] == [
        *(f"{kind} {memory}, device 0" for memory in ("pinned", "pageable") for kind in ("h2d", "d2h")),
        "d2d device 0",
        *(f"{kind} {memory}, device 1" for memory in ("pinned", "pageable") for kind in ("h2d", "d2h")),
        "d2d device 1",
        "p2p device 0 to 1",
        "p2p device 1 to 0",
    ]
    assert [link.direct for link in found.links][-3:] == [None, True, False]


def test_pinned_copies_are_measured_against_copies_the_other_way() -> None:
    found = program.calibrate(FakeMachine(2))
    assert [link.name for link in found.duplex] == [
        f"{kind} pinned, device {d}" for d in range(2) for kind in ("h2d", "d2h")
    ]
    assert {link.rates[0].nbytes for link in found.duplex} == {program.DUPLEX_FROM}
    alone = {link.kind: link.best.median_bytes_per_s for link in found.links if link.memory == "pinned"}
    for link in found.duplex:
        share = link.best.median_bytes_per_s / alone[link.kind]
        assert share == pytest.approx({"h2d": 0.9, "d2h": 0.8}[link.kind], rel=1e-3)
    assert [(c.device, c.launch_ns, c.node_ns) for c in found.costs] == [(0, 4_000, 460), (1, 4_001, 460)]
    assert program.calibrate(FakeMachine(1, room=1 << 19)).duplex == [], "no memory for copies that large"


def test_the_gap_between_a_graphs_kernels_is_the_median_within_replays() -> None:
    """Two replays of three kernels, 1 us each, 0.4, 0.5, 0.5 and 0.7 us apart; the pause between the replays is no gap."""
    starts = [0.0, 1.4, 2.9, 100.0, 101.5, 103.2]
    kernels: list[dict[str, Any]] = [{"ph": "X", "cat": "kernel", "ts": at, "dur": 1.0} for at in starts]
    other: list[dict[str, Any]] = [{"ph": "X", "cat": "cuda_runtime", "ts": 0.5, "dur": 3.0}, {"ph": "M", "name": "x"}]
    assert graph_costs.node_gap_ns([*kernels[::-1], *other], 3) == 500
    assert graph_costs.node_gap_ns(kernels[:-1], 3) is None, "no whole replays"
    assert graph_costs.node_gap_ns(other, 3) is None


def test_a_recording_without_kernels_leaves_the_gap_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profiler of this torch records the replays of something that never reaches a device."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert graph_costs._node_ns(SimpleNamespace(replay=lambda: torch.ones(3).add_(1))) is None


def test_rates_are_medians_with_their_spread() -> None:
    (link,) = (k for k in program.calibrate(FakeMachine(1)).links if (k.kind, k.memory) == ("h2d", "pinned"))
    for rate in link.rates:
        exact = rate.nbytes / (LATENCY_S + rate.nbytes / SPEED["h2d"])
        assert rate.median_bytes_per_s == pytest.approx(exact)
        assert rate.low_bytes_per_s == pytest.approx(exact / 1.1)
        assert rate.high_bytes_per_s == pytest.approx(exact)
        assert rate.n == program.REPETITIONS
        assert rate.spread == pytest.approx(0, abs=1e-9)
    assert [rate.copies for rate in link.rates] == [64, 64, 64, 64, 64, 16, 4, 1, 1, 1]
    assert link.best.nbytes == 1 << 30


def test_the_spread_is_that_of_the_quartiles() -> None:
    """Rates 1, 2, 3, 4, 5 after the warm-up: quartiles 2 and 4, median 3."""
    answers = iter([*[1.0] * program.WARM_UP, 1 / 1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    copies = SimpleNamespace(largest=1 << 26, seconds=lambda nbytes, count: next(answers))
    rate = program.measure(copies, 1 << 26, 5)
    assert rate.median_bytes_per_s == pytest.approx(3 << 26)
    assert rate.spread == pytest.approx(2 / 3)


def test_sizes_without_memory_are_left_out() -> None:
    found = program.calibrate(FakeMachine(1, room=1 << 20))
    assert {link.rates[-1].nbytes for link in found.links} == {1 << 20}
    with pytest.raises(WorkloadError, match="no memory for copies of 4096 bytes"):
        program.calibrate(FakeMachine(1, room=100))


def test_a_timer_that_stands_still_is_not_believed() -> None:
    copies = SimpleNamespace(largest=4096, seconds=lambda nbytes, count: 0.0)
    with pytest.raises(WorkloadError, match="took no time at all"):
        program.measure(copies, 4096, 3)


def test_without_a_gpu_there_is_nothing_to_calibrate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert program.main(["--result", str(tmp_path / "r.json")]) == 2
    assert "there is nothing to calibrate" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class FakeCuda:
    """torch.cuda as far as the program uses it, on host memory: a stream in which each copy takes 1 us a KiB."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.held: list[int] = []
        self.waited: list[str] = []
        self.synchronised = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
        cuda = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at = cuda.now_ms

            def synchronize(self) -> None:
                cuda.synchronised += 1

            def elapsed_time(self, other: Event) -> float:
                return other.at - self.at

        properties = SimpleNamespace(
            name="NVIDIA H200", total_memory=1 << 34, memory_clock_rate=3_134_000, memory_bus_width=6144
        )
        for name, value in {
            "is_available": lambda: True,
            "device_count": lambda: 2,
            "get_device_properties": lambda index: properties,
            "can_device_access_peer": lambda a, b: True,
            "mem_get_info": lambda d: (1 << 24, 1 << 34),
            "empty_cache": lambda: None,
            "synchronize": lambda: None,
            "device": lambda d: nullcontext(),
            "Event": Event,
            "_sleep": self.held.append,
            "Stream": lambda device: SimpleNamespace(record_event=lambda: "begun"),
            "stream": lambda stream: nullcontext(),
            "current_stream": lambda: SimpleNamespace(wait_event=self.waited.append),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(program, "graph_costs", lambda device: Costs(device, 5_100, None))
        monkeypatch.setattr(program, "_buffer", lambda device, memory, nbytes: FakeBuffer(cuda, nbytes))
        return self


class FakeBuffer:
    """Memory without content that notes which pieces of it were copied to."""

    def __init__(self, cuda: FakeCuda, nbytes: int, start: int = 0) -> None:
        self.cuda, self.nbytes, self.start = cuda, nbytes, start
        self.pieces: list[tuple[int, int]] = []

    def __getitem__(self, piece: slice) -> FakeBuffer:
        assert piece.stop <= self.nbytes
        self.pieces.append((piece.start, piece.stop))
        return FakeBuffer(self.cuda, piece.stop - piece.start, piece.start)

    def copy_(self, source: FakeBuffer, non_blocking: bool) -> None:
        assert non_blocking
        assert (source.nbytes, source.start) == (self.nbytes, self.start)
        self.cuda.now_ms += self.nbytes / 1024 * 1e-3


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda().install(monkeypatch)


def test_copies_are_timed_between_events_in_a_held_stream(cuda: FakeCuda) -> None:
    copies = program.CudaCopies(program.Route("h2d", "pinned", None, 0), 1 << 20)
    assert copies.seconds(4096, 10) == pytest.approx(40e-6)
    assert len(cuda.held) == 1
    assert cuda.held[0] >= (10 * 10e-6) * 1e9, "longer than queueing ten copies takes"


def test_copies_the_other_way_are_twice_as_many_and_begin_at_the_same_time(cuda: FakeCuda) -> None:
    ways = program.Route("h2d", "pinned", None, 0), program.Route("d2h", "pinned", 0, None)
    copies = program.OpposedCopies(*ways, 1 << 20)
    assert copies.seconds(4096, 10) == pytest.approx(40e-6), "the other stream's are not timed"
    assert len(vars(copies)["_dst"].pieces) == 10
    assert len(vars(vars(copies)["_other"])["_dst"].pieces) == 20
    assert cuda.waited == ["begun"]
    assert len(cuda.held) == 1
    assert cuda.held[0] >= (30 * 10e-6) * 1e9, "longer than queueing thirty copies takes"


def test_pageable_copies_cannot_be_queued_ahead(cuda: FakeCuda) -> None:
    copies = program.CudaCopies(program.Route("d2h", "pageable", 0, None), 1 << 20)
    assert copies.seconds(1 << 20, 1) == pytest.approx(1024e-6)
    assert cuda.held == []


def test_copies_walk_through_the_buffers(cuda: FakeCuda) -> None:
    copies = program.CudaCopies(program.Route("d2d", "device", 0, 0), 10_000)
    copies.seconds(4000, 2)
    copies.seconds(4000, 1)
    assert vars(copies)["_dst"].pieces == [(0, 4000), (4000, 8000), (0, 4000)]


def test_the_whole_program_on_a_fake_cuda(
    cuda: FakeCuda, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(program, "REPETITIONS", 3)
    assert program.main(["--result", str(tmp_path / "r.json")]) == 0
    found = load_measured(tmp_path / "r.json")
    assert [d.memory_bytes_per_s for d in found.devices] == [2 * 3_134_000_000 * 6144 // 8] * 2
    assert len(found.links) == 12
    assert {link.rates[-1].nbytes for link in found.links} == {1 << 22}, "a quarter of the 16 MiB that are free"
    assert all(r.median_bytes_per_s == pytest.approx(1.024e9) for link in found.links for r in link.rates)
    assert len(found.duplex) == 4
    assert [(c.launch_ns, c.node_ns) for c in found.costs] == [(5_100, None)] * 2
    assert capsys.readouterr().out.splitlines()[0].startswith("h2d pinned, device 0: 1.02 GB/s")


def test_the_real_buffers_hold_what_they_say() -> None:
    buffer = program._buffer(None, "pageable", 1000)
    assert (buffer.numel(), buffer.dtype, int(buffer.sum())) == (1000, torch.uint8, 1000)


def test_memory_rate_of_a_torch_that_does_not_tell() -> None:
    assert program.memory_rate(SimpleNamespace(name="x")) is None


@pytest.mark.parametrize(
    ("limit", "used", "free"), [("max", "5", 8 << 20), (str(4 << 20), str(1 << 20), 3 << 20), (None, None, 8 << 20)]
)
def test_host_memory_is_the_containers(tmp_path: Path, limit: str | None, used: str | None, free: int) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 99999 kB\nMemAvailable:   8192 kB\n", encoding="utf-8")
    if limit is not None and used is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n", encoding="utf-8")
        (tmp_path / "memory.current").write_text(f"{used}\n", encoding="utf-8")
    assert program.host_memory_free(tmp_path / "meminfo", tmp_path) == free


# Keeping it

HARDWARE = Hardware("h200", "cuda", ("NVIDIA H200",), "580.95", "13.0", "some CPU", 16)
Runner = Callable[..., Finished]


def answering(machine: FakeMachine | str | None, exit_code: int = 0, timed_out: bool = False) -> Runner:
    """A process that writes what `machine` measures, or some text, or nothing."""

    def run(command: Sequence[str], *, stdout: Path, stderr: Path, timeout_s: float, environment: Any) -> Finished:
        assert list(command[1:4]) == ["-P", "-m", "aisp_trace.workloads.calibration"]
        assert "AISP_TRACE_RECORDER" not in environment
        stderr.write_text("calibration: out of memory\n", encoding="utf-8")
        target = Path(command[-1])
        if isinstance(machine, FakeMachine):
            write_json(target, program.calibrate(machine, repetitions=3))
        elif machine is not None:
            target.write_text(machine, encoding="utf-8")
        return Finished(exit_code, 1, timed_out)

    return run


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "hardware", lambda device: HARDWARE)
    monkeypatch.setattr(keeping, "run_process", answering(FakeMachine(1)))


def measured() -> Calibration:
    return keeping.measure(60, lambda line: None)


def test_a_calibration_says_where_it_comes_from(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AISP_GIT_COMMIT", "c0ffee")
    found = measured()
    assert (found.hardware_key, found.hardware.driver, found.facts["torch"]) == ("h200", "580.95", "2.11.0")
    assert found.git["commit"] == "c0ffee"
    assert not any(os.sep in part for part in found.command), "no folders of the machine"


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        (answering(None, exit_code=2), r"exit code 2 \(calibration: out of memory\)"),
        (answering(None, timed_out=True), "did not end within 60 s"),
        (answering("{"), "its result cannot be used"),
        (answering(None), "its result cannot be used"),
        (answering(FakeMachine(2)), r"torch calibrated \['NVIDIA H200', 'NVIDIA H200'\]"),
    ],
)
def test_a_failed_measurement_is_said(gpu: None, monkeypatch: pytest.MonkeyPatch, runner: Runner, words: str) -> None:
    monkeypatch.setattr(keeping, "run_process", runner)
    with pytest.raises(WorkloadError, match=words):
        measured()


def test_without_a_gpu_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "hardware", lambda device: dataclasses.replace(HARDWARE, gpus=()))
    with pytest.raises(UsageError, match="--calibrate found no NVIDIA GPU"):
        measured()


def faster(calibration: Calibration) -> Calibration:
    """The same, with every rate doubled and one link gone."""

    def twice(link: Link) -> Link:
        fields = ("median_bytes_per_s", "low_bytes_per_s", "high_bytes_per_s")
        rates = [dataclasses.replace(r, **{f: 2 * getattr(r, f) for f in fields}) for r in link.rates]
        return dataclasses.replace(link, rates=rates)

    return dataclasses.replace(
        calibration, created_utc="2030-01-01T00:00:00Z", links=[twice(link) for link in calibration.links[1:]]
    )


def test_a_calibration_is_not_replaced_without_force(gpu: None, tmp_path: Path) -> None:
    first, said = measured(), list[str]()
    file = keeping.store(first, tmp_path / "new", force=False, say=said.append)
    assert (file.name, said) == ("calibration_h200.json", [])
    before = file.read_bytes()
    with pytest.raises(UsageError, match="exists and was kept; replace it with --force"):
        keeping.store(faster(first), tmp_path / "new", force=False, say=said.append)
    assert file.read_bytes() == before
    assert said[0] == f"made: {first.created_utc} -> 2030-01-01T00:00:00Z"
    assert "h2d pinned, device 0: 50.00 GB/s -> none" in said
    assert any(line.startswith("d2d device 0: ") and line.endswith("(+100.0 %)") for line in said)
    keeping.store(faster(first), tmp_path / "new", force=True, say=said.append)
    assert load_calibration(file).date == "2030-01-01"
    assert [f.name for f in file.parent.iterdir()] == ["calibration_h200.json"]


def test_a_damaged_file_is_kept_too(gpu: None, tmp_path: Path) -> None:
    file, said = tmp_path / "calibration_h200.json", list[str]()
    file.write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="--force"):
        keeping.store(measured(), tmp_path, force=False, say=said.append)
    assert "cannot be read" in said[0]
    assert file.read_text(encoding="utf-8") == "{"


def test_a_folder_that_cannot_be_written_is_said(gpu: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        keeping.store(measured(), tmp_path / "file" / "x", force=False, say=print)


def test_where_a_calibration_goes(tmp_path: Path) -> None:
    environment = {"XDG_DATA_HOME": "/data"}
    assert places.folder_for_new(tmp_path, environment) == Path("/data/aisp-trace")
    assert places.data_folder({"XDG_DATA_HOME": "relative"}) == Path.home() / ".local/share/aisp-trace"
    (tmp_path / "expectations").mkdir()
    assert places.folder_for_new(tmp_path, environment) == tmp_path / "expectations"
    assert places.calibration_folders(tmp_path, environment)[:2] == (
        tmp_path / "expectations",
        Path("/data/aisp-trace"),
    )


def test_the_command(gpu: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["capture", "--calibrate", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "h2d pinned, device 0" in shown
    assert max(map(len, shown.replace(str(tmp_path), "").splitlines())) <= 80
    assert json.loads((tmp_path / "calibration_h200.json").read_text(encoding="utf-8"))["hardware_key"] == "h200"
    with pytest.raises(UsageError, match="exists and was kept"):
        main.run(["capture", "--calibrate", "--output", str(tmp_path)])
    assert main.run(["capture", "--calibrate", "--force", "--output", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--calibrate", "pipeline_sequential"], "a workload was given together with --calibrate"),
        (["--calibrate", "--rounds", "3"], "--rounds was given together with --calibrate"),
        (["--calibrate", "--", "true"], "a command was given together with --calibrate"),
        (["--force"], "without --calibrate"),
    ],
)
def test_what_does_not_go_with_it(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        main.run(["capture", *arguments])
