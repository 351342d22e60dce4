"""What a recording says of a candidate, without a GPU: built exports, read and judged.

Every export has two rehearsals, a set-up and two timed calls; each test changes one thing.

    |prepare|check|prepare|check|setup |prepare|stream|call t0 |check|keep|prepare|stream|call t1 |check|keep|
     h       h     h       h            h       s      K        h            h       s      K        h
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.kernels.verify.judge import Facts, Judged, Rules, judge
from aisp_trace.kernels.verify.names import is_own, kernels_of, library_of, plain
from aisp_trace.kernels.verify.physics import Peak
from aisp_trace.kernels.verify.recording import Recording, read_recording
from aisp_trace.kernels.verify.sanitize import told
from aisp_trace.tests.builders.nsys_export import NsysExport, gid
from aisp_trace.tests.kernel_attacks.catalogue import FOLDER

US = 1_000
STEP = 1_000 * US
"""Each range has a millisecond of its own."""

HARNESS = "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>(int)"
OWN = "_Z7rmsnormPKfS0_Pfx"
GIVEN, OTHER = 13, 7
"""Streams."""

FACTS = [Facts(f"t{n}", "rows=4,columns=4", True, 120 * US, 1_000_000) for n in range(2)]


class Timeline:
    """An export in the making, range after range."""

    def __init__(self) -> None:
        self.export = NsysExport()
        self.now = STEP
        self.correlation = 0
        self.at: dict[str, int] = {}

    def launch(self, start: int, name: str, us: int = 100, *, stream: int = GIVEN, tid: int = 100, **more: Any) -> None:
        """A kernel of `us` microseconds, launched at `start` and run 10 us later."""
        self.correlation += 1
        self.export.call(start, start + 5 * US, "cudaLaunchKernel", tid=tid, correlationId=self.correlation)
        mangled = self.export.string(more.pop("mangled", name))
        first = start + 10 * US
        ids = {"streamId": stream, "correlationId": self.correlation, "mangledName": mangled}
        self.export.kernel(first, first + us * US, name, **ids, **more)

    def copy(self, start: int, kind: int, nbytes: int) -> None:
        """A copy of 10 us that is launched at `start`."""
        self.correlation += 1
        self.export.call(start, start + 5 * US, "cudaMemcpyAsync", correlationId=self.correlation)
        ids = {"streamId": GIVEN, "correlationId": self.correlation}
        self.export.copy(start + 10 * US, start + 20 * US, kind, nbytes, **ids)

    def range(self, name: str, *launches: str, stream: int = OTHER) -> None:
        """A range of most of a millisecond with a short kernel for each of `launches`."""
        self.at[name] = self.now
        self.export.range(self.now, self.now + STEP - 100 * US, name)
        for number, kernel in enumerate(launches):
            self.launch(self.now + (10 + 150 * number) * US, kernel, stream=stream)
        self.now += STEP


def timeline(*, kernel: str = OWN, without: str = "") -> Timeline:
    """The usual one; `without` names a range that is left out."""
    made = Timeline()
    for _ in range(2):
        made.range("prepare", HARNESS)
        made.range("check", HARNESS)
    made.range("setup")
    for fact in FACTS:
        made.range("prepare", HARNESS)
        made.range("stream", HARNESS, stream=GIVEN)
        if fact.token != without:
            made.range(f"call {fact.token}", *([kernel] if kernel else []), stream=GIVEN)
        made.range("check", HARNESS)
        made.range("keep")
    return made


def judged(made: Timeline, tmp_path: Path, rules: Rules | None = None, facts: list[Facts] | None = None) -> Judged:
    file = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
    recording = read_recording(made.export.write(file))
    return judge(recording, FACTS if facts is None else facts, rules or Rules(own={OWN}))


def test_an_honest_recording_gives_the_time_of_its_calls(tmp_path: Path) -> None:
    found = judged(timeline(), tmp_path, Rules({OWN}, peak=Peak(1e12, "a test", 500_000)))
    assert found.reasons == []
    assert found.unknown == ""
    (timing,) = found.timings
    assert (timing.time_ns, timing.busy_ns, timing.event_ns, timing.kernels) == (100 * US, 100 * US, 120 * US, 1)
    assert timing.floor_ns == pytest.approx(0.5 * US)
    assert timing.share_of_peak == pytest.approx(0.01)
    assert [(row.name, row.launches, row.own, row.library) for row in found.kernels] == [(OWN, 2, True, None)]


def test_a_call_of_several_kernels_takes_from_the_first_to_the_end_of_the_last(tmp_path: Path) -> None:
    made = timeline()
    for fact in FACTS:
        made.launch(made.at[f"call {fact.token}"] + 300 * US, OWN, 50)
    (timing,) = judged(made, tmp_path).timings
    # launched at 10 us and at 300 us of the range, each runs 10 us later
    assert (timing.time_ns, timing.busy_ns, timing.kernels) == (340 * US, 150 * US, 2)


Change = Callable[[Timeline], None]


def in_call(**more: Any) -> Change:
    """One more kernel in the second call."""
    values = {"name": OWN, **more}
    return lambda made: made.launch(made.at["call t1"] + 300 * US, **values)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (in_call(name="void cutlass::Kernel<int>", mangled="_ZN7cutlass"), "library"),
        (in_call(name="somebody_elses"), "library"),
        (in_call(stream=OTHER), "stream"),
        (in_call(tid=101), "thread"),
        (in_call(us=2_000), "outlives"),
        (in_call(graphNodeId=5), "graph"),
        (in_call(), "varies"),
        (lambda made: made.copy(made.at["call t1"] + 300 * US, 2, 1 << 20), "host_work"),
        (lambda made: made.launch(made.at["call t1"] + STEP - 60 * US, OWN), "outside"),
        (lambda made: made.launch(made.at["check"] + 300 * US, HARNESS), "harness_work"),
        (lambda made: made.launch(made.at["keep"] + 300 * US, OWN), "harness_work"),
        (lambda made: made.launch(made.at["setup"] + 300 * US, OWN, 2_000), "outlives"),
        (lambda made: made.launch(made.at["prepare"] + 300 * US, OWN, 2_500), "outlives"),
        (lambda made: made.launch(made.at["keep"] + 300 * US, OWN, tid=102), "thread"),
        (lambda made: made.export.range(made.at["call t1"] + US, made.at["call t1"] + 2 * US, "prepare"), "forged_ranges"),
        (lambda made: made.export.range(made.now, made.now + US, "call more"), "forged_ranges"),
    ],
)  # fmt: skip
def test_what_should_not_be_there_is_named(change: Change, code: str, tmp_path: Path) -> None:
    made = timeline()
    change(made)
    assert code in {reason.code for reason in judged(made, tmp_path).reasons}


def test_work_of_the_set_up_in_its_own_threads_is_nobody_s_business(tmp_path: Path) -> None:
    made = timeline()
    made.launch(made.at["setup"] + 100 * US, OWN, tid=101)
    made.launch(made.at["setup"] + 300 * US, "ampere_sgemm_128x64")
    assert judged(made, tmp_path).reasons == []


def test_a_call_without_a_kernel_is_refused(tmp_path: Path) -> None:
    found = judged(timeline(kernel=""), tmp_path)
    assert [(reason.code, reason.calls) for reason in found.reasons] == [("no_kernel", 2)]


def test_a_call_that_failed_needs_no_kernel(tmp_path: Path) -> None:
    """Views may be refused: the call has its range and nothing in it."""
    made = timeline()
    made.range("prepare", HARNESS)
    made.range("stream", HARNESS, stream=GIVEN)
    made.range("call views")
    refused = Facts("views", "rows=4,columns=4", False, None, 1_000, raised=True)
    assert judged(made, tmp_path, facts=[*FACTS, refused]).reasons == []
    assert [r.code for r in judged(made, tmp_path, facts=[*FACTS, replace(refused, raised=False)]).reasons] == [
        "no_kernel"
    ]


def test_events_that_say_less_than_the_trace_are_named(tmp_path: Path) -> None:
    for event_us, codes in ((80, []), (74, ["clock"]), (1, ["clock"])):
        facts = [replace(fact, event_ns=event_us * US) for fact in FACTS]
        assert [reason.code for reason in judged(timeline(), tmp_path, facts=facts).reasons] == codes


def test_nothing_is_faster_than_memory(tmp_path: Path) -> None:
    slow = Peak(1e10, "a test", 0)  # 1 MB takes 100 us
    assert judged(timeline(), tmp_path, Rules({OWN}, peak=slow)).reasons == []
    slower = Peak(0.9e10, "a test", 0)
    assert [r.code for r in judged(timeline(), tmp_path, Rules({OWN}, peak=slower)).reasons] == ["too_fast"]
    cached = Peak(0.9e10, "a test", 200_000)  # a fifth may stay in the cache
    assert judged(timeline(), tmp_path, Rules({OWN}, peak=cached)).reasons == []


@pytest.mark.parametrize("rules", [Rules(), Rules(allow_library=True)])
def test_of_a_python_candidate_libraries_are_refused_unless_they_are_allowed(rules: Rules, tmp_path: Path) -> None:
    codes = {
        r.code for r in judged(timeline(kernel="void at::native::rms_norm_kernel<float>"), tmp_path, rules).reasons
    }
    assert codes == (set() if rules.allow_library else {"library"})
    assert judged(timeline(kernel="rmsnorm"), tmp_path, rules).reasons == []


def test_what_the_recording_lacks_cannot_be_told(tmp_path: Path) -> None:
    assert judged(timeline(without="t1"), tmp_path).unknown == "the recording lacks the ranges of 1 of 2 calls"
    recording = read_recording(timeline().export.write(tmp_path / "lost.sqlite"))
    lost = Recording(recording.ranges, ())
    assert judge(lost, FACTS, Rules()).unknown.startswith("the recording has no kernel of the process at all")


def test_a_process_of_the_candidate_is_another_thread(tmp_path: Path) -> None:
    made = timeline()
    made.correlation += 1
    start = made.at["call t1"] + 300 * US
    made.export.call(start, start + US, "cudaLaunchKernel", pid=200, tid=200, correlationId=made.correlation)
    made.export.kernel(start + US, start + 50 * US, OWN, pid=200, correlationId=made.correlation)
    assert gid(200) != gid(100)
    codes = {reason.code for reason in judged(made, tmp_path).reasons}
    assert codes == {"thread", "outlives"}


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)", "PyTorch"),
        ("void at_cuda_detail::cub::DeviceReduceKernel<int>", "PyTorch"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "cuBLAS"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NNT", "cuBLAS"),
        ("void cutlass::device_kernel<flash::enable_sm90>", "CUTLASS"),
        ("triton_per_fused_add_mean_mul_pow_rsqrt_0", "Inductor"),
        ("void cub::DeviceScanKernel<int>", "CUB or Thrust"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "NCCL"),
        ("rmsnorm", None),
        ("void (anonymous namespace)::rmsnorm_rows<float, 4>(float const*)", None),
        ("softmax_kernel", None),
        ("rotary_embedding", None),
    ],
)
def test_libraries_are_known_by_their_kernels(name: str, library: str | None) -> None:
    assert library_of(name) == library


def test_kernels_of_unnamed_namespaces_are_recognised() -> None:
    one = "_ZN34_GLOBAL__N__89b8bf71_4_t_cu_plainc5saxpyEiPf"
    other = "_ZN36_GLOBAL__N__11111111_6_t2_cu_plainc25saxpyEiPf"
    assert plain(one) == plain(other) == "_ZN@5saxpyEiPf"
    assert plain("_Z5saxpyiPf") == "_Z5saxpyiPf"
    assert is_own(other, "saxpy", {plain(one)})
    assert is_own("", "void (anonymous namespace)::saxpy<float>(int)", {plain(one)})
    assert not is_own("", "axpy", {plain(one)})
    assert not is_own("_Z6otherv", "saxpy", {plain(one)})


def test_a_source_s_kernels_are_those_of_its_ptx() -> None:
    from aisp_trace.kernels.build import KernelError, find_nvcc

    try:
        find_nvcc()
    except KernelError:
        pytest.skip("there is no nvcc")
    found = kernels_of(FOLDER / "cuda_right.cu", (9, 0))
    assert len(found) == 3
    assert "_ZN@7rmsnormIfEEvPKT_S3_PS1_x" in found


# -- compute-sanitizer ------------------------------------------------------------------------------------------------

CLEAN = "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n"
DIRTY = (
    "========= COMPUTE-SANITIZER\n========= Invalid __global__ read of size 4 bytes\n"
    "=========     at rmsnorm+0x50\n========= ERROR SUMMARY: 3 errors\n"
)


def test_what_a_sanitizer_s_log_says() -> None:
    assert told("memcheck", 0, CLEAN, None).clean is True
    found = told("memcheck", 86, DIRTY, "its process ended")
    assert (found.clean, found.said) == (False, "Invalid __global__ read of size 4 bytes")
    race = "========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)\n"
    assert told("racecheck", 86, race, None).clean is False
    unsupported = told("memcheck", 1, "========= Error: Device not supported. Please refer to\n", None)
    assert unsupported.clean is None
    assert "not supported" in unsupported.said
    assert told("memcheck", 1, "", "its process ended").said == "its process ended"
