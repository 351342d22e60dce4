"""The first ten lines say what a performance engineer would say of a recording after an hour with it.

What that is was written down, with its figures, before the rules that find it; of the recordings in `traces/samples` and of three
jobs that everybody knows, built here so that the figures follow from how they are built.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from aisp_trace.cli.main import main
from aisp_trace.tests.builders.nsys_export import NsysExport

SAMPLES: Final = Path(__file__).resolve().parents[1] / "traces" / "samples"
LINES: Final = 10
COLUMNS: Final = 140

MS: Final = 10**6
US: Final = 10**3

RECORDED: Final[Sequence[tuple[str, tuple[str, ...], str, tuple[str, ...]]]] = (
    # (recording, options, the diagnosis, what says so)
    (
        "h100_pipeline_decode.sqlite.xz",
        ("--window", "pipeline_sequential/baseline"),
        "Nearly all of it is copies through pageable memory: 685 of 883 ms, d2h at 1.4 GB/s, and the host work around them.",
        (
            "1. Copies through pageable memory: 79.",
            "% of it in pipeline_sequential/baseline/stage:d2h",
            "pin the host memory",
        ),
    ),
    (
        "h100_pipeline_decode.sqlite.xz",
        ("--window", "pipeline_sequential/optimized"),
        "Compute fills 83 % of 77.5 ms and the copies hide under it; one unexplained host gap of 7.8 ms is what is left.",
        ("1. Waiting for the host: 1", "stage:d2h"),
    ),
    (
        "h100_pipeline_decode.sqlite.xz",
        ("--window", "decode/baseline"),
        "An eager decoder: 2,048 kernels of 3.7 us in 45 ms; the device waits for Python 83 % of the time.",
        ("1. Launch-bound: 8", "2,048 kernels of 3.75 us on average", "CUDA graph"),
    ),
    (
        "h100_pipeline_decode.sqlite.xz",
        ("--window", "decode/optimized"),
        "The same work as one graph: the device is busy 96 % of the time.",
        ("Limited by CUDA graphs. The window is 95.7 % CUDA graphs",),
    ),
    (
        "h100_pipeline_decode.sqlite.xz",
        (),
        "Four programs and their start-up in one file: most of it is host work around `decode`, then the pageable copies.",
        (
            "no iterations were found",
            "1. Waiting for the host: 64.1 % (2.32 s), 63 % of it in decode",
            "2. Copies through pageable",
        ),
    ),
    (
        "h200x2_ddp.sqlite.xz",
        (),
        "A step takes 4.83 ms once warm. The collectives are hidden, but the matrix products beside them take half as long "
        "again: that pays back more than half of what is hidden. Rank 1 is late once, for 1.25 ms.",
        (
            "steady: 4 iterations `iteration`, 4.83 ms each",
            "start-up 5.86 s and iteration#0 to iteration#1, 400 ms, are not counted",
            "1. Contention: 10.7 % of device 0 (2.26 ms), all of it in iteration/backward",
            "61.5 % of the 3.67 ms they hide",
            "2. Waiting for the host: 10.4 % of device 1",
        ),
    ),
    (
        "h200x2_handoff.sqlite.xz",
        (),
        "Two devices in turn, 12 ms an iteration; device 1 waits for device 0 half of the time.",
        (
            "3 iterations `iteration`, 12.0 ms each",
            "1. Waiting for another device: 52.9 % of device 1",
        ),
    ),
    (
        "h200_pipeline_sequential",
        (),
        "The baseline copies pageable memory 86 % of the time; of the other two nothing is left to say.",
        ("1. Copies through pageable memory: 86.3 % (1.06 s), 64 % of it in iteration/h2d",),
    ),
    (
        "h200_memory_standard",
        (),
        "The baseline frees and allocates in every iteration, and the device waits for it.",
        ("1. Allocator stalls: ", "69 % of it in iteration/release", "allocate once and reuse"),
    ),
    (
        "h200_end_to_end_bandwidth",
        (),
        "Batched copies are fast but nothing runs beside them.",
        ("1. Copies that nothing hides: ", "50 % of it in iteration/h2d", "with two buffers"),
    ),
    (
        "cpu_threads_nsys2022.sqlite.xz",
        (),
        "No GPU: the baseline's 12 iterations take 16.4 ms each once warm, nearly all of it in `stage:compute`.",
        (
            "11 iterations",
            "16.4 ms each",
            "No device operations were recorded, and no calls that launch any",
        ),
    ),
)


def first_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    """The first ten lines that `analyze` prints, as one."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    assert main(["analyze", *map(str, words)]) == 0
    return re.sub(r"\s+", " ", " ".join(capsys.readouterr().out.splitlines()[:LINES]))


@pytest.mark.parametrize(
    ("name", "options", "diagnosis", "said"), RECORDED, ids=[" ".join((n, *o)) for n, o, _, _ in RECORDED]
)
def test_recordings(
    name: str,
    options: tuple[str, ...],
    diagnosis: str,
    said: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = first_lines(capsys, monkeypatch, SAMPLES / name, *options)
    missing = [part for part in said if part not in found]
    assert not missing, f"an engineer says: {diagnosis}\nthe tool: {found}"


class Job:
    """A process whose main thread launches kernels; the device runs them in order, each as soon as it can."""

    def __init__(self, export: NsysExport, pid: int, device: int) -> None:
        self.export, self.pid, self.device = export, pid, device
        self.free = dict.fromkeys((7, 13), 0)
        self.launched = 0

    def launch(self, at: int, ns: int, name: str, stream: int = 7, not_before: int = 0) -> int:
        """A kernel of `ns`, launched at `at`; the instant it ends."""
        self.launched += 1
        number = self.launched
        self.export.call(at, at + 4 * US, "cudaLaunchKernel", pid=self.pid, tid=self.pid, correlationId=number)
        start = max(at + 6 * US, self.free[stream] + US, not_before)
        where = {"deviceId": self.device, "streamId": stream, "correlationId": number}
        self.export.kernel(start, start + ns, name, pid=self.pid, **where)
        self.free[stream] = start + ns
        return start + ns

    def wait(self, at: int) -> int:
        """The host waits from `at` for the device; the instant it goes on."""
        end = max(at + 2 * US, max(self.free.values()) + 5 * US)
        self.export.call(at, end, "cudaStreamSynchronize", pid=self.pid, tid=self.pid, correlationId=0)
        return end

    def range(self, start: int, end: int, name: str) -> None:
        self.export.range(start, end, name, pid=self.pid, tid=self.pid)


def test_forty_steps_of_training_that_wait_for_their_loader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 s of start-up, a first step of 3 s, then 39 of about 75 ms: 30 of them for data, 45 of kernels, a wait at the end."""
    export = NsysExport()
    job = Job(export, 100, 0)
    job.launch(1000, 5 * US, "fill")
    at, waited, first = 5_000 * MS, 0, 0
    for step in range(40):
        begin, data = at, 30 * MS
        idle_from = job.free[7]
        at += data if step else 3_000 * MS
        job.range(begin, at, "data")
        export.add(
            "OSRT_API", start=begin + US, end=at - US, globalTid=_tid(100), nameId=export.string("poll"), returnValue=0
        )
        forward = at
        for _ in range(15):
            end = job.launch(at, MS, "gemm_forward")
            at += 50 * US
        job.range(forward, at, "forward")
        if step > 1:
            waited += at - 15 * 50 * US + 6 * US - idle_from
        backward = at
        for _ in range(30):
            end = job.launch(at, MS, "gemm_backward")
            at += 50 * US
        job.range(backward, at, "backward")
        at = job.wait(at)
        assert at > end
        job.range(begin, at, f"step {step}")
        first = at if step == 0 else first
    found = first_lines(capsys, monkeypatch, export.write(tmp_path / "train.sqlite"))
    assert "steady: 39 iterations `step #`, 75.1 ms each" in found
    assert "start-up 5.00 s and step 0, 3.05 s, are not counted" in found
    share = float(re.findall(r"1\. Waiting for data: ([0-9.]+) %", found)[0])
    assert share == pytest.approx(100 * waited / (at - first), abs=1.5)
    assert "of it in step #/data" in found and "num_workers" in found


def _tid(pid: int) -> int:
    return (1 << 48) + (pid << 24) + pid


def test_two_ranks_that_gather_before_every_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten steps of four layers: an all-gather of 1 ms that nothing hides, then 2 ms of compute. Rank 1 comes 0.5 ms late."""
    export = NsysExport()
    jobs = [Job(export, 100 + rank, rank) for rank in range(2)]
    at = MS
    for step in range(10):
        begin = at
        for _ in range(4):
            late = at + 500 * US
            end = late + 6 * US + MS
            for rank, job in enumerate(jobs):
                start = at + rank * 500 * US
                job.launch(
                    start, end - start - 6 * US, "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage)", stream=13
                )
                job.launch(start + 10 * US, 2 * MS, "gemm", not_before=end + US)
            at = end + 2 * MS
        for job in jobs:
            job.range(begin, at, f"ProfilerStep#{step}")
        at += 100 * US
    found = first_lines(capsys, monkeypatch, export.write(tmp_path / "fsdp.sqlite"))
    assert "10 iterations `ProfilerStep#`" in found
    share = float(re.findall(r"1\. Communication that nothing hides: ([0-9.]+) % of device 0", found)[0])
    assert share == pytest.approx(100 * 1.5 / 3.5, abs=1.5)
    assert "of all collectives wait for the last rank to begin" in found
    assert "20.0 ms of all collectives" in found, "40 times half a millisecond"


def test_an_eager_decoder(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """30 tokens of 100 kernels of 4 us, one launched every 12 us: the device works a third of the time."""
    export = NsysExport()
    job = Job(export, 100, 0)
    at = MS
    for _ in range(30):
        begin = at
        for _ in range(100):
            job.launch(at, 4 * US, "elementwise")
            at += 12 * US
        job.range(begin, at, "decode")
        at += 5 * US
    found = first_lines(capsys, monkeypatch, export.write(tmp_path / "decode.sqlite"))
    assert "30 iterations `decode`, 1.20 ms each" in found
    share = float(re.findall(r"1\. Launch-bound: ([0-9.]+) %", found)[0])
    assert share == pytest.approx(100 * 8 / 12, abs=1)
    assert "3,000 kernels of 4.00 us on average, the same 100 in each of 30 iterations" in found
    assert "CUDA graph" in found
