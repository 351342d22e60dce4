"""The least time of an iteration's work: what each peak says, where it comes from, and that no honest run is below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.expectations.judging.admissible import examine
from aisp_trace.expectations.judging.evidence import Evidence, RoundTimes, gather
from aisp_trace.expectations.judging.judged import calibration_of_run
from aisp_trace.expectations.judging.physics import CACHE_BYTES, ROOM, least, paced, peaks, physics_notes, too_fast
from aisp_trace.tests.judging.build import MS, WORK, answer, evidence, run_folder, variant
from aisp_trace.traces.calibration import SCHEMA as CALIBRATION_SCHEMA
from aisp_trace.traces.calibration import CalibratedDevice, Calibration, Link, Rate
from aisp_trace.traces.run import Hardware, Work, load_run

ROOT = Path(__file__).resolve().parents[1]
H200, UNKNOWN = "NVIDIA H200", "NVIDIA H300"


def machine(*gpus: str) -> Hardware:
    return Hardware("x", "cuda" if gpus else "cpu", gpus, "580.65", "13.0", "EPYC", 16)


def link(kind: str, gb_per_s: float, src: int | None = None, dst: int | None = None) -> Link:
    memory = "device" if kind in ("d2d", "p2p") else "pinned"
    rates = [Rate(n, 15, 1, gb_per_s * 1e9 * share, 1.0, 1e15, 0.0) for n, share in ((1 << 20, 0.9), (1 << 30, 1.0))]
    return Link(kind, memory, src, dst, True if kind == "p2p" else None, rates)


def calibrated(*links: Link, gpus: Sequence[str] = (UNKNOWN,), hbm: int | None = None) -> Calibration:
    devices = [CalibratedDevice(i, name, 1 << 37, hbm) for i, name in enumerate(gpus)]
    nothing: dict[str, Any] = {}
    return Calibration(
        CALIBRATION_SCHEMA, "x", "2026-11-22T00:00:00Z", (), machine(*gpus), nothing, nothing, nothing, devices, links
    )


def work(**changes: Any) -> Work:
    return replace(Work(1, "samples", 0, 0, 0, {}), **changes)


def timed(*ms: float, moved: int = 0, flops: int = 0, gpus: Sequence[str] = (H200,), tmp: Path) -> Evidence:
    """An optimized variant whose iterations took `ms` in one round, and what its work says."""
    shown = work(flops=flops, moved_bytes={"h2d": moved})
    known = {name: variant(name, None, answer(work=shown)) for name in ("baseline", "optimized")}
    times = {"optimized": tuple(round(n * MS) for n in ms)}
    manifest = replace(load_run(run_folder(tmp / "run-1")).manifest, hardware=machine(*gpus))
    return evidence(variants=known, rounds=(RoundTimes(0, tuple(times), times),), manifest=manifest)


# --- peaks ------------------------------------------------------------------------------------------------------------


def test_a_known_device_has_its_data_sheets_peaks() -> None:
    found = peaks(machine(H200), None)
    assert {kind: (peak.per_s, peak.source) for kind, peak in found.items()} == {
        "flops": (3958e12, "datasheet H200"),
        "memory": (4800e9, "datasheet H200"),
        "h2d": (63.015e9, "datasheet H200"),
        "d2h": (63.015e9, "datasheet H200"),
    }


def test_the_drivers_clock_and_width_go_before_a_data_sheet_that_rounds_them_down() -> None:
    found = peaks(machine(H200), calibrated(gpus=(H200,), hbm=4_814_304_000_000))["memory"]
    assert (found.per_s, found.source) == (4.814304e12, "driver, 2026-11-22")


def test_without_a_data_sheet_a_peak_is_what_the_calibration_reached_and_room() -> None:
    links = [link("h2d", 26.0, dst=0), link("h2d", 20.0, dst=0), link("d2d", 1000.0, src=0, dst=0)]
    found = peaks(machine(UNKNOWN), calibrated(*links))
    assert {kind: peak.per_s for kind, peak in found.items()} == {"h2d": ROOM * 26e9, "memory": ROOM * 2000e9}
    assert found["h2d"].source == "1.25 times calibration 2026-11-22"


def test_a_calibration_above_the_data_sheet_is_believed() -> None:
    """A slot of another generation, or a link that is none of PCI Express."""
    assert peaks(machine(H200), calibrated(link("h2d", 120.0, dst=0), gpus=(H200,)))["h2d"].per_s == ROOM * 120e9


def test_a_calibration_below_the_data_sheet_does_not_lower_the_limit() -> None:
    """It may have been made in a slower slot than the run."""
    assert peaks(machine(H200), calibrated(link("h2d", 26.0, dst=0), gpus=(H200,)))["h2d"].per_s == 63.015e9


def test_gpus_add_up_and_one_unknown_among_them_leaves_nothing() -> None:
    assert peaks(machine(H200, H200), None)["flops"].per_s == 2 * 3958e12
    assert "flops" not in peaks(machine(H200, UNKNOWN), None)
    pair = calibrated(link("p2p", 300.0, 0, 1), link("p2p", 200.0, 1, 0), gpus=(H200, H200))
    assert peaks(machine(H200, H200), pair)["p2p"].per_s == ROOM * 500e9


def test_a_gpu_on_another_link_than_pci_express_has_no_data_sheets_link() -> None:
    assert peaks(machine("NVIDIA GH200 480GB"), None) == {}
    assert peaks(machine(), None) == {}


# --- the least time -----------------------------------------------------------------------------------------------------


def test_the_longest_of_all_limits_counts() -> None:
    known = peaks(machine(H200), None)
    ten = work(flops=3958 * 10**10, moved_bytes={"h2d": 63_015_000, "d2h": 126_030_000, "d2d": 10**12})
    found = least(ten, known, 1)
    assert found is not None
    assert (round(found.ns), found.text) == (10 * MS, "39.6 TFLOP at 3,958 TFLOP/s, datasheet H200")
    copies = least(replace(ten, flops=0), known, 1)
    assert copies is not None
    assert (round(copies.ns), copies.text) == (2 * MS, "126 MB to the host at 63.0 GB/s, datasheet H200")


def test_what_caches_may_hold_need_not_pass_memory() -> None:
    known = peaks(machine(H200), None)
    assert least(work(input_bytes=CACHE_BYTES, output_bytes=CACHE_BYTES), known, 1) is None
    found = least(work(input_bytes=CACHE_BYTES + 48 * 10**8, output_bytes=CACHE_BYTES), known, 1)
    assert found is not None
    assert round(found.ns) == MS
    assert least(work(input_bytes=3 * CACHE_BYTES, output_bytes=0), known, 2) is None, "two GPUs have two caches"


def test_work_that_states_nothing_has_no_limit() -> None:
    assert least(work(moved_bytes={"h2d": None, "d2h": 0}), peaks(machine(H200), None), 1) is None
    assert least(WORK, {}, 1) is None


# --- accusing -------------------------------------------------------------------------------------------------------------

COPY = 63_015_000
"""Bytes that take a millisecond to an H200."""


@pytest.mark.parametrize(
    ("ms", "accused"),
    [
        ((1.0, 1.1, 1.2, 1.3), False),
        ((0.5, 0.5, 0.5, 0.5), True),
        ((1.2, 0.1, 1.2, 1.2, 1.2, 0.1, 1.2, 1.2), True),  # every fourth left out: mean 0.93, median 1.2
        ((2.0, 0.1, 2.0, 2.0, 2.0, 0.1, 2.0, 2.0), True),  # and here the mean is above the limit, too
        ((1.2, 0.1, 1.2, 1.2), False),  # one alone may be a slip of the clock
        ((0.1,), True),  # but where it is all there is, it counts
    ],
)
def test_two_iterations_below_the_limit_are_too_fast(ms: tuple[float, ...], accused: bool, tmp_path: Path) -> None:
    found = list(too_fast(timed(*ms, moved=COPY, tmp=tmp_path)))
    assert [name for name, _ in found] == (["optimized"] if accused else [])


def test_only_what_ran_on_a_gpu_is_held_against_it(tmp_path: Path) -> None:
    shown = timed(0.1, 0.1, moved=COPY, tmp=tmp_path)
    on_cpu = variant("optimized", None, answer(inputs=("pipeline", "cpu", "default", 0), work=work(flops=10**18)))
    assert list(too_fast(replace(shown, variants={"optimized": on_cpu}))) == []
    assert list(too_fast(replace(shown, manifest=None))) == []


def test_one_note_says_how_near_the_limit_is(tmp_path: Path) -> None:
    (note,) = physics_notes(timed(1.5, 1.5, moved=COPY, tmp=tmp_path))
    assert note == (
        "nearest to the hardware's limit is optimized: its second fastest iteration takes 1.5 times the 1.00 ms that its "
        "work takes at least (63.0 MB from the host at 63.0 GB/s, datasheet H200)"
    )


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ((UNKNOWN,), "of h100 is known; `aisp-trace capture --calibrate` measures it"),
        ((), "no peak of h100 is known"),
    ],
)
def test_without_a_peak_one_note_says_not_checked(gpus: tuple[str, ...], words: str, tmp_path: Path) -> None:
    shown = timed(1e-6, 1e-6, moved=COPY, flops=10**18, gpus=gpus, tmp=tmp_path)
    assert list(too_fast(shown)) == []
    (note,) = physics_notes(shown)
    assert note.startswith("not checked against the hardware: no peak") and note.endswith(words)


def test_a_calibration_without_a_data_sheet_leaves_flops_unchecked(tmp_path: Path) -> None:
    shown = replace(
        timed(1.0, 1.0, moved=10**6, gpus=(UNKNOWN,), tmp=tmp_path), calibration=calibrated(link("h2d", 20, dst=0))
    )
    first, second = physics_notes(shown)
    assert first.startswith("nearest to the hardware's limit is optimized")
    assert second == "FLOPs not checked against the hardware: no data sheet of h100 is known here"


def test_commands_that_state_no_work_are_not_spoken_of(tmp_path: Path) -> None:
    shown = timed(1.0, tmp=tmp_path)
    silent = {name: replace(v, answers=()) for name, v in shown.variants.items()}
    assert list(physics_notes(replace(shown, variants=silent))) == []


# --- runs that were made ----------------------------------------------------------------------------------------------------

NEAREST = {"h200_pipeline_sequential": 1.42, "h200_memory_standard": 1.15, "h200_end_to_end_bandwidth": 1.61}
"""Of each sample, how many times the limit its nearest variant takes."""


@pytest.mark.parametrize("name", NEAREST)
@pytest.mark.parametrize("with_calibration", [True, False])
def test_no_sample_is_accused(name: str, with_calibration: bool) -> None:
    run = load_run(ROOT / "traces" / "samples" / name)
    made = calibration_of_run(run, [ROOT / "expectations"]) if with_calibration else None
    shown = gather(run, {}, calibration=made)
    assert min(one.ratio for one in paced(shown)) == pytest.approx(NEAREST[name], abs=0.02)
    assert [f for f in examine(shown) if "faster than its hardware" in f.text] == []
