"""`kernels bench` without a GPU: limits, recordings that are built, a processor as the device, tables from given figures."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from aisp_trace.capture.power import Sample, Watched
from aisp_trace.cli.main import main
from aisp_trace.kernels.bench import gpu, parent
from aisp_trace.kernels.bench.limits import Limits, calibrated_copy, limits_of
from aisp_trace.kernels.bench.parent import Options, Wanted, bench_files, large_shapes, recorded_times, verification_of
from aisp_trace.kernels.bench.result import COMPILED, EAGER, KERNEL, Bench, Limit, Measurement
from aisp_trace.kernels.bench.steps import Step, run_steps
from aisp_trace.kernels.tasks import NAMES, find
from aisp_trace.kernels.verify.plan import shape_text
from aisp_trace.report.terminal.kernel_bench import print_bench
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.tests.kernel_attacks.catalogue import FOLDER
from aisp_trace.tests.test_peaks import LINKS, calibrated
from aisp_trace.traces.errors import WorkloadError

SMALL = {"rows": 37, "columns": 64}
US = 1_000

H200 = {
    "names": ["NVIDIA Made Up"],
    "capability": [9, 0],
    "multiprocessors": 132,
    "clock_khz": 1_980_000,
    "copy_bytes_per_s": 4.3e12,
}
"""What a child would say of an H200, under a name for which nobody has a calibration."""


# -- limits ---------------------------------------------------------------------------------------------------------


def test_a_limit_is_the_longer_of_bytes_and_flops(tmp_path: Path) -> None:
    limits = limits_of(H200, tmp_path)
    assert limits.flops_per_s == pytest.approx(66.9e12, rel=1e-3)
    saxpy, shape = find("saxpy"), {"count": 1 << 27}
    limit = limits.of(saxpy, shape, "float32")
    assert (limit.bound, limit.required_bytes, limit.flops) == ("memory", 3 << 29, 1 << 28)
    assert limit.limit_ns == pytest.approx((3 << 29) / 4.3e12 * 1e9)
    slow = replace(limits, flops_per_s=1e9).of(saxpy, shape, "float32")
    assert (slow.bound, round(slow.limit_ns)) == ("flops", 1 << 28)
    unknown = limits_of({**H200, "clock_khz": None}, tmp_path)
    assert unknown.flops_per_s is None
    assert unknown.of(saxpy, shape, "float32").bound == "memory"


def test_older_multiprocessors_have_fewer_lanes(tmp_path: Path) -> None:
    a100 = {**H200, "capability": [8, 0], "multiprocessors": 108, "clock_khz": 1_410_000}
    assert limits_of(a100, tmp_path).flops_per_s == pytest.approx(19.5e12, rel=1e-2)


def test_a_calibrated_copy_counts_reading_and_writing() -> None:
    found = calibrated(*LINKS)
    assert calibrated_copy(found) == (2e12, "calibration of 2026-11-22: a copy within the device")
    assert calibrated_copy(None) is None
    assert calibrated_copy(found, device=7) is None


@pytest.mark.parametrize("name", NAMES)
def test_large_shapes_are_the_first_and_those_that_memory_matters_to(name: str) -> None:
    task = find(name)
    found = large_shapes(task, task.dtypes[0])
    assert found[0] == task.shapes[0]
    assert 2 <= len(found) < len(task.shapes)


# -- the recording --------------------------------------------------------------------------------------------------


def export_of(keys: dict[str, int]) -> NsysExport:
    """A call of two kernels a millisecond for each key: 10 us, 5 us idle, 20 us; the flush before it is still running.

    |flush  |call k.0                 |
         h h | L L
       FFFFFF  OO  OOOO
    """
    made, now, number = NsysExport(), 1_000_000, 0

    def launch(at: int, start: int, us: int, name: str) -> None:
        nonlocal number
        number += 1
        made.call(at, at + US, "cudaLaunchKernel", correlationId=number)
        made.kernel(start, start + us * US, name, correlationId=number)

    for key, count in keys.items():
        for call in range(count):
            launch(now - 50 * US, now - 40 * US, 60, "flush")
            made.range(now, now + 15 * US, f"call {key}.{call}")
            launch(now + 2 * US, now + 20 * US, 10, "first")
            launch(now + 6 * US, now + 35 * US, 20 + call, "second")
            now += 1_000_000
    return made


def test_a_call_is_as_long_as_its_own_operations_run(tmp_path: Path) -> None:
    file = export_of({"kernel0": 3, "kernel1": 1}).write(tmp_path / "trace.sqlite")
    found = recorded_times(file, {"kernel0": 3, "kernel1": 1})
    assert not isinstance(found, str)
    first, second = found.timings
    assert (first.shape, first.busy_ns, first.time_ns, first.kernels) == ("kernel0", 31 * US, 36 * US, 2)
    assert (second.shape, second.busy_ns, second.calls) == ("kernel1", 30 * US, 1)


def test_a_recording_without_the_calls_is_none(tmp_path: Path) -> None:
    file = export_of({"kernel0": 1}).write(tmp_path / "trace.sqlite")
    assert recorded_times(file, {"eager5": 2}) == "the recording has none of the calls"
    (tmp_path / "empty.sqlite").write_bytes(b"")
    assert recorded_times(tmp_path / "empty.sqlite", {"eager5": 2}) == "the recording has none of the calls"
    (tmp_path / "text.sqlite").write_bytes(b"no database" * 100)
    assert "cannot be read" in str(recorded_times(tmp_path / "text.sqlite", {"eager5": 2}))


def test_energy_is_of_the_loop_alone() -> None:
    (case,) = parent._cases(KERNEL, [Wanted(find("rmsnorm"), "float32", [SMALL])], [FOLDER / "a.py"], Options(), 0)
    case.span = (2_000_000_000, 4_000_000_000)
    case.know(energy_calls=1000)
    samples = [Sample(second * 1_000_000_000, energy_mj=second * second * 100_000) for second in range(6)]
    parent._fill_energy(Watched({0: samples}), [case])
    assert case.measured.energy_j == pytest.approx((16 - 4) * 100 / 1000)
    case.know(energy_j=None)
    parent._fill_energy(Watched(), [case])
    assert case.measured.energy_j is None


# -- a processor as the device --------------------------------------------------------------------------------------

WRONG = "def run(inputs, outputs):\n    outputs['out'].zero_()\n"


def test_a_kernel_is_timed_beside_pytorch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two kernels, one of them wrong, in one process; and eager code in another one."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG, encoding="utf-8")
    task, other = find("rmsnorm"), {"rows": 5, "columns": 1000}
    wanted = [
        Wanted(task, "float32", [SMALL, other], FOLDER / "control_right.py"),
        Wanted(task, "float32", [SMALL], wrong),
    ]
    files = [one.file for one in wanted if one.file is not None]
    options = Options(compiled=False, seconds=0.02, calls=3, energy_shapes=1, device="cpu")
    right, bad = bench_files(wanted, files, files, options, tmp_path)
    assert (right.exit_code, bad.exit_code) == (0, 3)
    assert [(m.implementation, m.shape) for m in right.measurements] == [
        (how, shape_text(shape)) for how in (KERNEL, EAGER) for shape in (SMALL, other)
    ]
    for one in right.measurements:
        assert one.problem == ""
        assert one.calls == 3
        assert one.event_low_ns is not None and one.event_ns is not None
        assert 0 < one.event_low_ns <= one.event_ns
        assert one.trace_ns is None
        assert one.share_by == "events"
        assert (one.energy_calls or 0) > 0 if one.shape == shape_text(SMALL) else one.energy_calls is None
    ours = bad.of(KERNEL, shape_text(SMALL))
    assert ours is not None and ours.is_wrong
    json.dumps(bad.document(), allow_nan=False)
    print_bench(bad)
    printed = capsys.readouterr().out
    assert "WRONG" in printed
    assert "not recorded" in printed
    assert "not measured" in printed
    assert "not recorded: nothing runs on a device" in printed


CRASH = "import ctypes\ndef run(inputs, outputs):\n    ctypes.string_at(0)\n"
HANG = "import time\ndef run(inputs, outputs):\n    time.sleep(1000)\n"
FAIL = "def run(inputs, outputs):\n    raise ValueError('so it is')\n"


def test_what_follows_a_crash_and_a_hang_is_still_timed(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []

    def steps() -> Any:
        for name, text in (("fails", FAIL), ("crashes", CRASH), ("hangs", HANG), ("right", "")):
            file = FOLDER / "control_right.py" if not text else tmp_path / f"{name}.py"
            if text:
                file.write_text(text, encoding="utf-8")
            question: dict[str, Any] = {
                "do": "time",
                "task": "rmsnorm",
                "dtype": "float32",
                "shape": SMALL,
                "how": KERNEL,
            }
            question |= {"path": str(file), "calls": 1, "key": name}
            seconds = 1.0 if name == "hangs" else 60.0
            hear = lambda answer, name=name: heard.append((name, f"{len(answer['event_ns'])} call"))  # noqa: E731
            fail = lambda why, name=name: heard.append((name, why))  # noqa: E731
            yield Step(name, question, seconds, hear, fail)

    ran = list(run_steps(tmp_path / "all", "cpu", steps()))
    assert len(ran) == 3
    assert [name for name, _ in heard] == ["fails", "crashes", "hangs", "right"]
    said = dict(heard)
    assert said["fails"] == "ValueError: so it is"
    assert said["crashes"] == "its process was ended by SIGSEGV, at crashes"
    assert "did not answer within 1 s" in said["hangs"]
    assert said["right"] == "1 call"


def test_a_process_that_never_comes_up_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="ended before it timed any"):
        list(run_steps(tmp_path / "all", "no such device", iter(())))


def test_nothing_is_begun_after_the_deadline(tmp_path: Path) -> None:
    wanted = [Wanted(find("rmsnorm"), "float32", [SMALL], FOLDER / "control_right.py")]
    cases = list(parent._cases(EAGER, wanted, [FOLDER], Options(), 0))
    seen = parent._Seen(facts=H200)
    assert list(parent._steps(EAGER, cases, seen, Options(deadline=0.0))) == []
    assert cases[0].measured.problem == "not begun: the time was over"


# -- what is said ---------------------------------------------------------------------------------------------------


def made(verification: str = "not verified", **more: Any) -> Bench:
    """A bench of one shape with everything there is."""
    ours = Measurement(
        KERNEL,
        "rows=8192,columns=8192",
        30,
        70e3,
        69e3,
        80e3,
        65e3,
        66e3,
        1.0,
        0.96,
        "trace",
        0.031,
        30_000,
        0.5,
        10**9,
    )
    others = [replace(ours, implementation=EAGER, trace_ns=130e3, kernels=3.0, share_of_limit=0.48)]
    others.append(Measurement(COMPILED, "rows=8192,columns=8192", problem="its process ended"))
    figures: dict[str, Any] = {
        "task": "rmsnorm",
        "dtype": "bfloat16",
        "device": "NVIDIA H200",
        "kernel": {
            "file": "rmsnorm.cu",
            "sha256": "0",
            "language": "CUDA",
            "parameters": {"threads": 256, "unroll": 2},
        },
        "verification": verification,
        "limits": {
            "bytes_per_s": 4.3e12,
            "bytes_source": "a copy within the device, measured just now",
            "flops_per_s": 66.9e12,
            "flops_source": "132 multiprocessors",
        },
        "shapes": [Limit("rows=8192,columns=8192", 1 << 28, 1 << 28, "memory", 62e3)],
        "measurements": [ours, *others],
        "notes": ["a note"],
        "made_with": {"torch": "2"},
    }
    return Bench(**{**figures, **more})


def test_a_bench_is_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    print_bench(made())
    printed = capsys.readouterr().out
    first, _, titles, ours, eager, compiled, *_ = printed.splitlines()
    assert first == "rmsnorm, bfloat16, on NVIDIA H200: rmsnorm.cu (threads=256 unroll=2), not verified"
    table = [" ".join(line.split()) for line in (titles, ours, eager, compiled)]
    assert table == [
        "shape what trace us events us low high kernels of limit x kernel mJ a call",
        "rows=8192,columns=8192 kernel 65.0 70.0 69.0 80.0 1 96 % 1.00 31 not verified",
        "eager 130.0 70.0 69.0 80.0 3 48 % 2.00 31",
        "compiled - - - - - - - - its process ended",
    ]
    assert "limit: the longer of required bytes at 4.30 TB/s" in printed
    assert "bound by memory: rows=8192,columns=8192" in printed
    assert printed.endswith("note: a note\n")
    print_bench(made("verified"))
    assert "not verified" not in capsys.readouterr().out


def test_a_bench_is_a_document() -> None:
    document = json.loads(json.dumps(made().document(), allow_nan=False))
    assert document["schema"] == "aisp-trace/kernel-bench/1"
    assert document["exit_code"] == 0
    assert document["measurements"][0]["energy_j"] == 0.031
    lost = replace(made().measurements[0], tolerance_share=float("inf"))
    document = made(measurements=[lost]).document()
    assert (document["exit_code"], document["measurements"][0]["tolerance_share"]) == (3, None)
    assert "not finite" in document["measurements"][0]["problem"]
    assert made(measurements=[replace(lost, implementation=EAGER)]).exit_code == 3


def test_a_verification_speaks_of_one_file() -> None:
    document = {"candidate": {"sha256": "ab"}, "task": "rmsnorm", "dtype": "float32", "headline": "verified"}
    assert verification_of(document, "ab", "rmsnorm", "float32") == "verified"
    other = "not verified: the verification is of another file, task or dtype"
    for digest, task, dtype in (
        ("cd", "rmsnorm", "float32"),
        ("ab", "softmax", "float32"),
        ("ab", "rmsnorm", "float16"),
    ):
        assert verification_of(document, digest, task, dtype) == other
    assert verification_of({"candidate": None}, "ab", "rmsnorm", "float32") == other
    assert verification_of(None, "ab", "rmsnorm", "float32") == "not verified"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rmsnrm"], "no kernel task is called 'rmsnrm'; did you mean 'rmsnorm'?"),
        (["mine.py"], "name the task that it computes with --task"),
        (["mine.py", "--task", "rmsnorm"], "mine.py is not a file"),
        (["mine.txt", "--task", "rmsnorm"], "neither a .cu nor a .py file"),
        (["FILE", "--task", "norm"], "no kernel task is called 'norm'"),
        (["rmsnorm", "--dtype", "float8"], "rmsnorm has no dtype 'float8'"),
        (["rmsnorm", "--shape", "rows=4"], "write rows=N,columns=N"),
        (["rmsnorm", "--verification", "gone.json"], "gone.json"),
        (["rmsnorm"], "a GPU is needed to time kernels and torch sees none here"),
    ],
)
def test_what_cannot_be_benched_is_said(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    given = [str(FOLDER / "control_right.py") if word == "FILE" else word for word in words]
    assert main(["kernels", "bench", *given]) == 2
    assert says in capsys.readouterr().err


def test_the_peak_of_a_copy_is_told_with_its_source(tmp_path: Path) -> None:
    found = limits_of(H200, tmp_path)
    assert found == Limits(4.3e12, "a copy within the device, measured just now", found.flops_per_s, found.flops_source)


# -- the script -----------------------------------------------------------------------------------------------------


def script() -> Any:
    """scripts/kernels_h200.py as a module."""
    file = Path(__file__).parents[1] / "scripts" / "kernels_h200.py"
    spec = importlib.util.spec_from_file_location("kernels_h200", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_prints_a_line_a_task_and_keeps_whole_files(tmp_path: Path) -> None:
    program = script()
    assert program.line(made("verified")) == (
        "rmsnorm              bfloat16 rows=8192,columns=8192: kernel 65.0 us (96 %, 31 mJ), eager 130.0 us (48 %, 31 mJ), "
        "compiled not timed; verified"
    )
    assert program.line(made(shapes=[])) == "rmsnorm              nothing was timed"
    program.keep([made()], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["bench.json"]
    assert json.loads((tmp_path / "bench.json").read_text())["rmsnorm"]["schema"] == "aisp-trace/kernel-bench/1"
    best = {"best": {"tried": {"settings": {"threads": 512}}}}
    program.write(tmp_path / "searches.json", {"rmsnorm": best, "saxpy": {"best": None}})
    assert program.best_settings(tmp_path / "searches.json") == {"rmsnorm": {"threads": 512}}
    assert program.best_settings(None) == {}


def test_the_script_prints_a_table_in_which_a_wrong_output_is_no_rival(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = script()
    document = made("verified").document()
    kernel, eager, *_ = document["measurements"]
    program.write(tmp_path / "bench.json", {"rmsnorm": document})
    assert program.main([str(tmp_path), "--table"]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert "| 65.0 us, 96 % | 130.0 us, 48 % | – | 0.50 × |" in row
    eager["tolerance_share"] = 2.0
    assert (kernel["implementation"], eager["implementation"]) == ("kernel", "eager")
    (row,) = list(program.table({"rmsnorm": document}))[2:]
    assert "**wrong** | – | – |" in row, "with nothing right beside it, the kernel is compared with nothing"


def test_the_script_says_that_there_is_no_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = script()
    monkeypatch.setattr(program, "has_gpu", lambda: False)
    assert program.main([str(tmp_path / "none")]) == 3
    assert "nothing was measured" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
