"""Clocks, power and energy while a process is timed: which sample belongs to which span, and that none is needed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from aisp_trace.capture import capture as capturing
from aisp_trace.capture import power
from aisp_trace.capture.power import Sample, Watched, energy_at, read, slowdown, state, watch
from aisp_trace.capture.processes import run_process
from aisp_trace.tests.builders.nvml import UUIDS, FakeNvml
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.tests.test_capture_rounds import make_plan, quiet
from aisp_trace.traces.run import GpuState, Manifest, from_json, load_run, to_json


def at(
    ms: int, mhz: int = 1980, mw: int = 400_000, celsius: int = 50, reasons: int = 0, mj: int | None = None
) -> Sample:
    """A sample at `ms` milliseconds; its energy is one joule a millisecond (1 kW) unless said otherwise."""
    return Sample(ms * 1_000_000, mhz, 2619, mw, celsius, reasons, ms * 1000 if mj is None else mj)


def over(samples: list[Sample], start_ms: float, end_ms: float) -> GpuState:
    return state(0, samples, round(start_ms * 1e6), round(end_ms * 1e6))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    """pynvml with two GPUs, looked at every millisecond."""
    made = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", made.module())
    monkeypatch.setattr(power, "PERIOD_S", 0.001)
    yield made
    assert not [t for t in threading.enumerate() if t.name == "aisp-trace-power"], "the thread outlived the process"
    assert made.opened == made.closed


# --- which sample, which span ---------------------------------------------------------------------------------------------


def test_samples_belong_to_the_span_they_lie_in() -> None:
    """
    samples   0     50     100     150     200
    span               [80 ----------- 160)
    """
    samples = [at(0, 1000), at(50, 1100), at(100, 1200, celsius=61), at(150, 1500, celsius=60), at(200, 1900)]
    found = over(samples, 80, 160)
    assert found.samples == 2
    assert (found.sm_mhz, found.memory_mhz) == ((1200, 1350, 1500), (2619, 2619, 2619))
    assert found.temperature_c == 61
    assert (found.energy_mj, found.power_w) == (80_000, 1000.0)


def test_a_span_is_half_open() -> None:
    samples = [at(0), at(50), at(100)]
    assert over(samples, 50, 100).samples == 1
    assert over(samples, 49, 101).samples == 2


def test_energy_is_taken_at_the_ends_of_the_span_between_samples() -> None:
    """0 J at 0 ms, 10 J at 50 ms, 110 J at 100 ms: the rate changes at 50."""
    samples = [at(0, mj=0), at(50, mj=10_000), at(100, mj=110_000)]
    assert energy_at(samples, 25_000_000) == 5000
    assert energy_at(samples, 75_000_000) == 60_000
    assert over(samples, 25, 75).energy_mj == 55_000
    assert over(samples, 25, 75).power_w == 1100.0


def test_a_span_without_a_sample_has_energy_and_says_so() -> None:
    found = over([at(0), at(50)], 10, 20)
    assert found == GpuState(0, 0, (), (), 1000.0, None, (), 10_000)
    assert over([at(0), at(15, mw=300_000, mj=0), at(50)], 10, 20).samples == 1


def test_a_span_beyond_the_samples_has_no_energy() -> None:
    found = over([at(0, mw=300_000), at(50, mw=500_000)], 0, 60)
    assert (found.samples, found.energy_mj, found.power_w) == (2, None, 400.0)
    assert over([], 0, 60) == GpuState(0, 0, (), (), None, None, (), None)


def test_a_counter_that_was_reset_counts_nothing() -> None:
    assert over([at(0, mj=9000), at(50, mj=10), at(100, mj=20)], 10, 60).energy_mj is None


@pytest.mark.parametrize(
    ("reasons", "names"),
    [
        ([0, 0], ()),
        ([0x4, 0], ("power cap",)),
        ([0x20], ("thermal",)),
        ([0x40 | 0x8], ("hardware", "thermal")),
        ([0x80], ("hardware",)),
        ([0x2, 0x10, 0x100], ("applications' clocks", "sync boost", "display")),
        ([0x1, 0x1], ("idle",)),
        ([0x1, 0x0], ()),  # it worked in between
        ([0x400], ("other",)),
        ([None], ()),
    ],
)
def test_why_clocks_were_held_down(reasons: list[int | None], names: tuple[str, ...]) -> None:
    assert slowdown(reasons) == names


# --- one reading ------------------------------------------------------------------------------------------------------------


def test_what_a_gpu_does_not_tell_is_unknown() -> None:
    fake = FakeNvml(broken=frozenset({"nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetClockInfo"}))
    assert read(fake.module(), 0, lambda: 7) == Sample(7, None, None, 400_000, 55, 0x4, None)


def test_reasons_have_two_names() -> None:
    module = FakeNvml(reasons=0x20).module()
    del module.nvmlDeviceGetCurrentClocksEventReasons
    assert read(module, 0, lambda: 7) == Sample(7, 1980, 2619, 400_000, 55, 0x20, 1000)


def test_a_gpu_that_tells_nothing_gives_no_sample() -> None:
    assert read(FakeNvml(dies_at=0).module(), 0) is None


# --- beside a process -------------------------------------------------------------------------------------------------------


def test_a_fake_clock_says_when(fake: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    clock    0 begun, 1 and 2 the samples before, 3 started, 4 ended, 5 and 6 the samples after; none between
    """
    monkeypatch.setattr(power, "PERIOD_S", PATIENCE_S)
    ticks = count()
    with watch("cuda", {}, clock=lambda: next(ticks)) as watched:
        pass
    assert (watched.start_ns, watched.end_ns) == (3, 4)
    assert {gpu: [s.at_ns for s in found] for gpu, found in watched.samples.items()} == {0: [1, 5], 1: [2, 6]}


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [(None, [0, 1]), ("1", [1]), (UUIDS[1], [1]), ("1,0", [1, 0]), ("GPU-aaaa", [0]), ("", []), ("0,7,1", [0])],
)
def test_only_gpus_that_the_process_may_use(visible: str | None, gpus: list[int], fake: FakeNvml) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    with watch("cuda", environment) as watched:
        pass
    assert list(watched.samples) == gpus
    assert [s.gpu for s in watched.states({"baseline": ()}).get("baseline", ())] == gpus


def test_the_thread_samples_while_a_process_runs_and_ends_with_it(fake: FakeNvml, tmp_path: Path) -> None:
    with watch("cuda", {}) as watched:
        command = [sys.executable, "-c", "import time; time.sleep(0.1)"]
        run_process(command, stdout=tmp_path / "out", stderr=tmp_path / "err", timeout_s=PATIENCE_S)
        assert fake.looked.wait(PATIENCE_S)
    assert fake.threads == {"MainThread", "aisp-trace-power"}
    times = [s.at_ns for s in watched.samples[0]]
    assert times == sorted(times) and times[0] <= watched.start_ns < watched.end_ns <= times[-1]
    assert any(watched.start_ns < t < watched.end_ns for t in times)
    (found, _) = watched.states({"baseline": ()})["baseline"]
    assert found.samples >= 1 and found.energy_mj is not None and found.slowdown == ("power cap",)


def test_an_interrupt_ends_the_thread(fake: FakeNvml, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Ctrl-C comes while the process sleeps, as soon as the thread has looked twice."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt() -> None:
        fake.looked.wait(PATIENCE_S)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt), watch("cuda", {}):
        other.start()
        command = [sys.executable, "-c", f"import time; time.sleep({PATIENCE_S})"]
        run_process(command, stdout=tmp_path / "out", stderr=tmp_path / "err", timeout_s=PATIENCE_S)
    other.join()


def test_an_nvml_that_fails_midway_leaves_what_there_was(fake: FakeNvml) -> None:
    fake.dies_at = 6
    with watch("cuda", {}) as watched:
        assert fake.looked.wait(PATIENCE_S)
    assert len(watched.samples[0]) == 3
    (first, _) = watched.states({"baseline": ()})["baseline"]
    assert first.samples == 2 and first.energy_mj is None and first.sm_mhz == (1980, 1980, 1980)


def test_an_nvml_that_never_tells_is_as_good_as_none(fake: FakeNvml) -> None:
    fake.dies_at = 0
    with watch("cuda", {}) as watched:
        pass
    assert watched.states({"baseline": ()}) == {}
    assert fake.closed == fake.opened == 0


@pytest.mark.parametrize("broken", ["nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"])
def test_gpus_that_cannot_be_listed_are_none(broken: str, fake: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.broken = frozenset({broken})
    with watch("cuda", {}) as watched:
        pass
    assert watched.states({"baseline": ()}) == {}


def test_without_the_binding_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # import raises
    with watch("cuda", {}) as watched:
        pass
    assert watched.states({"baseline": ()}) == {}


def test_on_a_cpu_nothing_is_asked(fake: FakeNvml) -> None:
    with watch("cpu", {}) as watched:
        pass
    assert watched.states({"baseline": ()}) == {}
    assert fake.opened == 0


# --- in the manifest --------------------------------------------------------------------------------------------------------


def test_the_manifest_keeps_the_state_of_each_variant(
    fake: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake workload says no spans, as older harnesses do: both variants have the state of the whole process."""
    asked: list[str] = []

    def on_a_gpu(device: str, environment: Mapping[str, str]) -> object:
        asked.append(device)
        return watch("cuda", environment)

    monkeypatch.setattr("aisp_trace.capture.rounds.watch", on_a_gpu)
    manifest = load_run(capturing.capture(make_plan(rounds=1), tmp_path, quiet)).manifest
    assert asked == ["cpu"]
    (made,) = manifest.rounds
    assert list(made.gpu_state) == ["baseline", "optimized"]
    for states in made.gpu_state.values():
        assert [s.gpu for s in states] == [0, 1]
        assert all(s.samples > 0 and s.sm_mhz == (1980, 1980, 1980) for s in states)
    document = json.loads(json.dumps(to_json(manifest)))
    assert from_json(Manifest, document, "again") == manifest


def test_the_manifest_keeps_the_state_over_the_energy_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    samples   0, 0.05, 0.1 ...                                                      10 s, at 1 kW up to 2 s and 2 kW from then on
    spans              timed [1.0 - 1.1)          pass [2.0 ---- 2.5)
    """
    samples = [at(ms, mj=ms * 1000 + max(ms - 2000, 0) * 1000) for ms in range(0, 10_001, 50)]

    @contextmanager
    def watched(device: str, environment: Mapping[str, str]) -> Iterator[Watched]:
        yield Watched({0: samples}, 0, 10_000_000_000)

    monkeypatch.setattr("aisp_trace.capture.rounds.watch", watched)
    monkeypatch.setenv("FAKE_PASS", "optimized")
    manifest = load_run(capturing.capture(make_plan(rounds=1), tmp_path, quiet)).manifest
    (made,) = manifest.rounds
    assert {name: states[0].energy_mj for name, states in made.gpu_state.items()} == {
        "baseline": 100_000,
        "optimized": 100_000,
    }
    ((name, (state,)),) = made.repeated_gpu_state.items()
    assert (name, state.energy_mj, state.power_w, state.samples) == ("optimized", 1_000_000, 2000.0, 10)
    document = json.loads(json.dumps(to_json(manifest)))
    assert from_json(Manifest, document, "again") == manifest


def test_manifests_without_states_are_read(tmp_path: Path) -> None:
    manifest = load_run(capturing.capture(make_plan(rounds=1), tmp_path, quiet)).manifest
    assert manifest.rounds[0].gpu_state == manifest.rounds[0].repeated_gpu_state == {}
    document = json.loads(json.dumps(to_json(manifest)))
    del document["rounds"][0]["gpu_state"]
    del document["rounds"][0]["repeated_gpu_state"]
    for variant in document["rounds"][0]["result"]["variants"]:
        del variant["repeated_ns"], variant["repeated"]
    assert from_json(Manifest, document, "old") == manifest
