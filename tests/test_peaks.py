"""What copies could have reached: the calibration's peaks, the recorder's, the data sheet's, and none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.analyze.accounts.peaks import DATA_SHEETS, PCIE, Peaks, expected_rate
from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.calibrated import keys, peaks_for
from aisp_trace.analyze.document import document
from aisp_trace.expectations.claims import load
from aisp_trace.report.terminal.analysis import print_analysis
from aisp_trace.tests.oracle.build import build, call, device, op
from aisp_trace.traces import places
from aisp_trace.traces.calibration import SCHEMA, CalibratedDevice, Calibration, Link, Rate
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.hardware_key import calibration_name
from aisp_trace.traces.model import Trace
from aisp_trace.traces.run import Hardware, write_json

H200 = "NVIDIA H200"
MIB = 1 << 20


def rate(nbytes: int, median: float) -> Rate:
    return Rate(nbytes, 15, 4, median, median * 0.99, median * 1.01, 0.004)


def link(kind: str, memory: str, src: int | None, dst: int | None, *rates: tuple[int, float]) -> Link:
    return Link(kind, memory, src, dst, True if kind == "p2p" else None, tuple(rate(*r) for r in rates))


def calibrated(*links: Link, gpus: tuple[str, ...] = (H200,), key: str = "h200", hbm: int | None = None) -> Calibration:
    hardware = Hardware(key, "cuda", gpus, "580.95", "13.0", "some CPU", 16)
    devices = tuple(CalibratedDevice(i, name, 150 * 10**9, hbm) for i, name in enumerate(gpus))
    date, command = "2026-11-22T17:00:00Z", ("python",)
    return Calibration(SCHEMA, key, date, command, hardware, {}, {"commit": "c0ffee"}, {}, devices, links)


LINKS = (
    link("h2d", "pinned", None, 0, (4096, 1e9), (MIB, 40e9), (64 * MIB, 50e9), (1024 * MIB, 49e9)),
    link("h2d", "pageable", None, 0, (4096, 1e9), (64 * MIB, 8e9)),
    link("d2h", "pinned", 0, None, (MIB, 44e9)),
    link("d2d", "device", 0, 0, (MIB, 1e12)),
)


def copying(
    kind: str, src: str | None, dst: str | None, *, name: str = H200, hbm: int | None = None, **other: Any
) -> Trace:
    """One copy of 100 MB in 2 ms: 50 GB/s."""
    ends = {"src_kind": src, "dst_kind": dst, "nbytes": 100_000_000}
    gpus = [device(d) | {"name": name, "memory_bytes_per_s": hbm} for d in (0, 1)]
    return build(
        devices=gpus[: 2 if kind == "p2p" else 1],
        api=[call("cudaMemcpyAsync", 0, 5, 1)],
        ops=[op(kind, 10, 2_000_010, 1, **(ends | other))],
    )


def figures(trace: Trace, *links: Link, **other: Any) -> tuple[Any, ...]:
    """(peak, source, share, expected) of the one copy of `trace`."""
    peaks = Peaks(calibrated(*links, **other)) if links else None
    (row,) = analyze(trace, peaks=peaks).bandwidth.to_dicts()
    return tuple(row[c] for c in ("peak_bytes_per_s", "peak_source", "share", "expected_bytes_per_s"))


def test_a_pinned_copy_is_held_against_the_largest_median_of_its_direction() -> None:
    peak, source, share, expected = figures(copying("h2d", "pinned", "device"), *LINKS)
    assert (peak, source, share) == (50e9, "calibration 2026-11-22", 1.0)
    assert 49e9 < expected < 50e9  # between 64 MiB and 1 GiB
    assert figures(copying("d2h", "device", "pinned"), *LINKS)[:2] == (44e9, "calibration 2026-11-22")


def test_a_pageable_copy_has_no_peak_but_an_expectation() -> None:
    assert figures(copying("h2d", "pageable", "device"), *LINKS) == (None, None, None, 8e9)
    assert figures(copying("d2h", "device", "pageable"), *LINKS) == (None, None, None, None)


@pytest.mark.parametrize("src", ["managed", "unknown", None])
def test_of_other_memory_nothing_is_known(src: str | None) -> None:
    assert figures(copying("h2d", src, "device"), *LINKS) == (None, None, None, None)


def test_a_copy_within_a_device_counts_twice_against_hbm() -> None:
    inside = copying("d2d", "device", "device", hbm=4_800_000_000_000)
    assert figures(inside) == (4.8e12, "device row", 100e9 / 4.8e12, None)
    assert figures(inside, *LINKS)[:2] == (4.8e12, "device row")
    assert figures(inside, *LINKS)[3] == 1e12


def test_hbm_of_a_silent_recorder_is_the_calibrations_else_the_data_sheets() -> None:
    inside = copying("d2d", "device", "device")
    assert figures(inside, *LINKS, hbm=4_814_304_000_000)[:2] == (4.814304e12, "calibration 2026-11-22")
    assert figures(inside, *LINKS)[:2] == (4.8e12, "datasheet H200")
    assert figures(copying("d2d", "device", "device", name="Some GPU"))[:3] == (None, None, None)


def test_without_a_calibration_the_data_sheet_gives_the_link() -> None:
    assert figures(copying("h2d", "pinned", "device")) == (PCIE[5], "datasheet H200", 50e9 / PCIE[5], None)
    assert figures(copying("h2d", "pinned", "device", name="NVIDIA A100-SXM4-80GB"))[:2] == (
        PCIE[4],
        "datasheet A100 80GB SXM",
    )
    assert figures(copying("h2d", "pinned", "device", name="NVIDIA GH200 480GB"))[:2] == (None, None)
    assert figures(copying("h2d", "pinned", "device", name="NVIDIA L40S"))[1] == "datasheet L40S"


def test_another_gpus_calibration_says_nothing() -> None:
    assert figures(copying("h2d", "pinned", "device", name="NVIDIA L4"), *LINKS)[1] == "datasheet L4"


def test_pairs_have_their_own_peaks_and_no_data_sheet() -> None:
    copy = copying("p2p", "device", "device", src_device=0, dst_device=1)
    there = link("p2p", "device", 0, 1, (MIB, 400e9))
    back = link("p2p", "device", 1, 0, (MIB, 300e9))
    assert figures(copy, back, there, gpus=(H200, H200)) == (400e9, "calibration 2026-11-22", 0.125, 400e9)
    assert figures(copy) == (None, None, None, None)


def test_a_device_numbered_otherwise_finds_its_twin() -> None:
    third = copying("h2d", "pinned", "device", device=3)
    third = build(
        devices=[device(3) | {"name": H200}], api=third.api.to_dicts(), ops=[third.ops.to_dicts()[0] | {"device": 3}]
    )
    assert figures(third, *LINKS)[0] == 50e9


def test_a_host_has_no_link() -> None:
    copy = copying("h2d", "pinned", "device")
    on_host = build(devices=[device(0, "host") | {"name": H200}], ops=copy.ops.to_dicts())
    assert figures(on_host)[:3] == (None, None, None)


def test_concurrent_copies_share_their_link() -> None:
    """
    |--------A--------|
    |--------B--------|      each sees half of what the link carries; the share is of what it carries
    """
    one = copying("h2d", "pinned", "device")
    row = one.ops.to_dicts()[0]
    both = build(devices=one.devices.to_dicts(), api=one.api.to_dicts(), ops=[row, row | {"stream": 8}])
    peaks = Peaks(calibrated(link("h2d", "pinned", None, 0, (MIB, 200e9))))
    (found,) = analyze(both, peaks=peaks).bandwidth.to_dicts()
    assert (found["bytes_per_s"], found["share"]) == (50e9, 0.5)


def test_expected_time_is_linear_between_sizes_and_constant_below_them() -> None:
    """4 KiB take 4.096 us, 1 MiB takes 26.2144 us."""
    pinned = link("h2d", "pinned", None, 0, (4096, 1e9), (MIB, 40e9))
    assert expected_rate(pinned, 4096) == pytest.approx(1e9)
    assert expected_rate(pinned, 1024) == pytest.approx(1024 / 4.096e-6)
    halfway = (4096 + MIB) / 2
    assert expected_rate(pinned, halfway) == pytest.approx(halfway / ((4.096e-6 + 26.2144e-6) / 2))
    assert expected_rate(pinned, 64 * MIB) == 40e9


def test_tables_and_json_show_peak_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    analysis = analyze(copying("h2d", "pinned", "device"), peaks=Peaks(calibrated(*LINKS)))
    print_analysis(analysis)
    shown = capsys.readouterr().out
    assert "peak h2d: 50.00 GB/s (calibration 2026-11-22)" in shown
    assert "100.0 %" in shown
    table = shown[shown.index("copies  memory") : shown.index("peak h2d")]
    assert max(map(len, table.splitlines())) <= 80
    (row,) = json.loads(json.dumps(document([analysis])))["traces"][0]["bandwidth"]
    assert (row["peak_bytes_per_s"], row["peak_source"], row["share"]) == (50e9, "calibration 2026-11-22", 1.0)


# Which calibration applies


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, so that no calibration of this machine is found."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def put(folder: Path, calibration: Calibration) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / calibration_name(calibration.hardware_key)
    write_json(file, calibration)
    return file


def test_folders_are_those_of_expectations() -> None:
    assert (places.PROJECT_DIR, places.PACKAGE_DIR) == (load.PROJECT_DIR, load.PACKAGE_DIR)


def test_the_projects_calibration_comes_before_the_users(home: Path) -> None:
    trace = copying("h2d", "pinned", "device", name="NVIDIA X1")
    assert peaks_for(None, trace, home) is None
    put(home / "data" / "aisp-trace", calibrated(*LINKS, gpus=("NVIDIA X1",), key="x1"))
    users = peaks_for(None, trace, home)
    put(home / "expectations", calibrated(LINKS[0], gpus=("NVIDIA X1",), key="x1"))
    projects = peaks_for(None, trace, home)
    assert users is not None
    assert projects is not None
    assert (len(users.calibration.links), len(projects.calibration.links)) == (4, 1)


def test_a_bare_trace_is_known_by_all_its_gpus_or_those_it_used() -> None:
    trace = copying("h2d", "pinned", "device")
    assert keys(None, trace) == ("h200",)
    eight = build(devices=[device(d) | {"name": H200} for d in range(8)], ops=trace.ops.to_dicts())
    assert keys(None, eight) == ("8x_h200", "h200")
    assert keys(None, build(devices=[device(0, "host")])) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "aisp-trace/calibration/9"}, "has schema 'aisp-trace/calibration/9'"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"hardware_key": "h100"}, "holds hardware_key 'h100'; rename"),
        ({"links": [{"kind": "h2h"}]}, "is missing"),
    ],
)
def test_a_damaged_calibration_is_refused(home: Path, change: dict[str, Any], words: str) -> None:
    file = put(home / "expectations", calibrated(*LINKS))
    file.write_text(json.dumps(json.loads(file.read_text()) | change), encoding="utf-8")
    with pytest.raises(InputError, match=words):
        peaks_for(None, copying("h2d", "pinned", "device"), home)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (link("h2h", "pinned", None, 0, (4096, 1e9)), "kind 'h2h'"),
        (link("h2d", "pinned", None, 0), "not by ascending size"),
        (link("h2d", "pinned", None, 0, (8192, 1e9), (4096, 1e9)), "not by ascending size"),
        (link("h2d", "pinned", None, 0, (4096, -1e9)), "impossible rate at 4096 bytes"),
    ],
)
def test_impossible_links_are_refused(home: Path, broken: Link, words: str) -> None:
    put(home / "expectations", calibrated(broken))
    with pytest.raises(InputError, match=words):
        peaks_for(None, copying("h2d", "pinned", "device"), home)


def test_a_link_twice_is_refused(home: Path) -> None:
    put(home / "expectations", calibrated(LINKS[0], LINKS[0]))
    with pytest.raises(InputError, match="is there twice"):
        peaks_for(None, copying("h2d", "pinned", "device"), home)


def test_the_rates_of_pci_express_follow_from_its_specification() -> None:
    for generation, transfers_per_s in ((4, 16e9), (5, 32e9)):
        assert PCIE[generation] == pytest.approx(transfers_per_s * 16 / 8 * 128 / 130, rel=1e-4)


def test_every_data_sheet_names_its_document_and_each_device_has_one() -> None:
    names = {
        "NVIDIA A100-SXM4-40GB": "A100 40GB",
        "NVIDIA A100-PCIE-40GB": "A100 40GB",
        "NVIDIA A100 80GB PCIe": "A100 80GB PCIe",
        "NVIDIA A100-SXM4-80GB": "A100 80GB SXM",
        "NVIDIA H100 80GB HBM3": "H100 SXM",
        "NVIDIA H200": "H200",
        "NVIDIA L4": "L4",
        "NVIDIA L40S": "L40S",
        "NVIDIA L40": None,
        "NVIDIA H100 PCIe": None,
        "Tesla V100S-PCIE-32GB": None,
    }
    for gpu, wanted in names.items():
        found = [sheet.name for sheet in DATA_SHEETS if re.search(sheet.pattern, gpu)]
        assert found == ([] if wanted is None else [wanted]), gpu
    assert all(sheet.document.startswith("NVIDIA ") and sheet.pcie in PCIE for sheet in DATA_SHEETS)
