"""What is said where no rule finds anything: what the window consists of, and what hiding all but compute gains at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.analyze.attribution.window import STEADY
from aisp_trace.analyze.findings.find import find
from aisp_trace.analyze.findings.limits import hiding, limit_sentences
from aisp_trace.analyze.result import Analysis
from aisp_trace.report.terminal.details import print_device_details
from aisp_trace.report.terminal.findings import print_findings
from aisp_trace.tests.judging.build import analysis
from aisp_trace.traces.phases import PHASES, STAGES

WINDOW = 1_000_000
HOST = [(0, "host", "host", WINDOW, 0, 0)]
GPU = [(0, "GPU", "gpu", WINDOW, 0, 0)]

Cell = tuple[str, str, str | None, int]


def window(cells: Sequence[Cell], *, count: int = 5, devices: Any = GPU, **more: Any) -> Analysis:
    """A window of 1 ms that is `count` steady iterations, with these (stage, category, cause, ns) cells."""
    kinds = [(0, i, "compute", 1, 1, 1, 0) for i in range(count)]
    tables = {"devices": devices, "iteration_kinds": kinds, **more.pop("tables", {})}
    made = analysis(
        ledger=[(s, None, category, cause, ns) for s, category, cause, ns in cells],
        iterations=count,
        tables=tables,
        **more,
    )
    return replace(made, choices=replace(made.choices, window=STEADY))


TRAINING: Sequence[Cell] = (
    ("step/backward", "compute", None, 490_000),
    ("step/forward", "compute", None, 400_000),
    ("step/optimizer", "compute", None, 80_000),
    ("step/zero", "compute", None, 1_000),
    ("step/data", "idle", "host_code", 29_000),
)


def said(shown: Analysis) -> str:
    assert find(shown) == ()
    (sentence,) = limit_sentences(shown)
    return sentence


def test_a_training_loop_on_a_cpu_is_limited_by_compute() -> None:
    assert said(window(TRAINING, devices=HOST)) == (
        "Limited by compute. An iteration spends 97.1 % of its time in stages that compute (backward 49.0 %, forward 40.0 %, "
        "optimizer 8.0 %, ...); the rest is other time 2.9 %. Hiding all the rest would make an iteration at most 1.03x as "
        "fast; only less or faster computation gains more."
    )


OPERATORS = [
    ("aten::addmm", 12, 600_000, 580_000, 0, 0, 57_000),
    ("aten::mm", 1, 60_000, 60_000, 0, 0, 0),
    ("aten::copy_", 4_000, 31_000, 31_000, 0, 0, 29_760),
    ("aten::gelu", 12, 30_500, 30_500, 0, 0, 0),
]


def test_a_host_names_the_operators_that_take_most() -> None:
    told = said(window(TRAINING, devices=HOST, tables={"operators": OPERATORS}))
    assert told.endswith(
        " gains more. PyTorch's operators that take most by themselves: aten::addmm 580 us (12 calls), aten::mm 60.0 us "
        "(1 call), aten::copy_ 31.0 us (4,000 calls, 96 % of it outside the stages)."
    )
    small = [(name, calls, ns, ns // 21, 0, 0, 0) for name, calls, ns, *_ in OPERATORS]
    assert said(window(TRAINING, devices=HOST, tables={"operators": small})).endswith(" gains more."), (
        "3 % or more is named"
    )
    assert "operators" not in said(window(TRAINING, tables={"operators": OPERATORS})), "a device has kernels to name"


@pytest.mark.parametrize(
    ("domain", "recorder", "says"), [(PHASES, "nsys", True), (PHASES, "torch", False), (STAGES, "nsys", False)]
)
def test_how_operators_are_recorded_is_said_of_programs_that_call_torch(domain: str, recorder: str, says: bool) -> None:
    host = window(TRAINING, devices=HOST)
    host = replace(host, choices=replace(host.choices, domain=domain), meta=replace(host.meta, recorder=recorder))
    assert ("`aisp-trace capture --recorder torch`" in said(host)) is says


def test_a_device_is_told_with_its_copies_and_largest_kernel() -> None:
    cells = [
        *TRAINING[:3],
        ("step/h2d", "h2d", None, 20_000),
        ("step", "comm", None, 5_000),
        ("step", "idle", "queued", 5_000),
    ]
    top = [(0, None, "gemm", 4, 700, 175.0, 0.7), (0, None, "gelu", 4, 300, 75.0, 0.3)]
    assert said(window(cells, tables={"top_kernels": top})) == (
        "Limited by compute. An iteration is 97.0 % compute (backward 49.0 %, forward 40.0 %, optimizer 8.0 %); the rest is "
        "copies 2.0 %, communication 0.5 % and gaps 0.5 %. Hiding all the rest would make an iteration at most 1.03x as fast; "
        "only faster or fewer kernels gain more. The largest kernel, gemm, takes 70.0 % of the kernels' time."
    )


def test_stages_of_one_name_are_told_by_their_paths_and_a_single_one_without_its_share() -> None:
    two: list[Cell] = [("a/run", "compute", None, 600_000), ("b/run", "compute", None, 400_000)]
    assert "compute (a/run 60.0 %, b/run 40.0 %) and has no gaps worth mentioning." in said(window(two))
    assert "The window is 100.0 % compute, all of it in a/run" in said(
        window([("a/run", "compute", None, 999_999), ("a/run", "idle", "tail", 1)], count=0)
    )
    assert "is 100.0 % compute and has" in said(window([("(none)", "compute", None, WINDOW)]))


def test_graphs_that_were_recorded_whole_are_not_called_compute() -> None:
    cells: list[Cell] = [("replay", "graph", None, 950_000), ("replay", "idle", "queued", 50_000)]
    found = said(window(cells))
    assert found.startswith(
        "Limited by CUDA graphs. An iteration is 95.0 % CUDA graphs, recorded whole with the gaps inside"
    )
    assert "or shorter gaps inside the graphs" in found
    mixed: list[Cell] = [
        ("a", "compute", None, 700_000),
        ("replay", "graph", None, 250_000),
        ("a", "idle", "queued", 50_000),
    ]
    assert said(window(mixed)).startswith(
        "Limited by compute. An iteration is 95.0 % compute, CUDA graphs with the gaps inside them included (a 70.0 %"
    )


def test_much_of_several_things_is_no_limit_by_compute() -> None:
    cells: list[Cell] = [
        ("a", "compute", None, 750_000),
        ("a", "h2d", None, 90_000),
        ("a", "idle", "host_code", 90_000),
        ("a", "idle", "queued", 70_000),
    ]
    found = said(window(cells))
    assert found.startswith(
        "Nothing stands out: no known problem costs enough of the window to be worth mentioning. An iter"
    )
    assert (
        "the rest is copies 9.0 % and gaps 16.0 %. Hiding all the rest would make an iteration at most 1.33x" in found
    )


def test_of_several_devices_the_one_that_computes_most_is_told() -> None:
    made = window(TRAINING, tables={"windows": [(0, 0, WINDOW), (1, 0, WINDOW)]})
    other = made.ledger.with_columns(device=made.ledger["device"] + 1)
    rows = [*made.ledger.rows()[1:], (0, "step", None, "idle", "queued", 490_000), *other.rows()]
    both = analysis(iterations=0, tables={"windows": made.windows.rows(), "ledger": rows, "devices": GPU})
    (sentence,) = limit_sentences(both)
    assert sentence.startswith("Limited by compute. The window of device 1 is 97.1 % compute")


def test_nothing_is_claimed_by_a_ledger_that_nobody_can_trust_or_without_compute() -> None:
    plain = "Nothing stands out: no known problem costs enough of the window to be worth mentioning."
    assert said(window(TRAINING, distrust={"ledger": ("unavailable", "rows were lost")})) == plain
    assert said(window([("a", "idle", "tail", WINDOW)])) == plain


@pytest.mark.parametrize(("waits", "told"), [(100_000, True), (190_000, True), (210_000, False), (500_000, False)])
def test_beside_a_finding_it_is_told_only_where_compute_limits_all_the_same(
    waits: int, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [("step/forward", "compute", None, WINDOW - waits), ("step/data", "idle", "host_code", waits)]
    print_findings(window(cells, devices=HOST))
    out = capsys.readouterr().out
    assert "1. Waiting for data" in out and "stands out" not in out
    assert ("Beyond that, limited by compute. An iteration spends" in out) == told
    assert out.find("limited") > out.find("1. Waiting") or not told


def test_the_part_and_the_whole_stand_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """ "at most 1.11x" for the data beside "1.25 times its compute" left readers to find out which is meant."""
    cells = [
        ("step/forward", "compute", None, 800_000),
        ("step/data", "idle", "host_code", 100_000),
        ("step", "idle", "host_code", 100_000),
    ]
    print_device_details(window(cells, devices=HOST), 0)
    assert (
        "an iteration takes 0.200 ms on average, gaps between included, its compute alone 0.160 ms: "
        "hiding all else would make it at most 1.25x as "
        "fast; data that is always ready, 1.11x, is a part of that"
    ) in " ".join(capsys.readouterr().out.split())


@given(st.integers(1, WINDOW), st.integers(0, WINDOW))
def test_no_part_gains_more_than_hiding_everything(compute: int, waiting: int) -> None:
    rest = WINDOW - compute
    waiting = min(waiting, rest)
    shown = window(
        [
            ("step/forward", "compute", None, compute),
            ("step/data", "idle", "host_code", waiting),
            ("step", "idle", "tail", rest - waiting),
        ],
        devices=HOST,
    )
    most = hiding(shown, 0)
    assert most is not None and most.gain == pytest.approx(WINDOW / compute)
    for one in find(shown):
        assert one.share == 1 or 1 / (1 - one.share) <= most.gain * (1 + 1e-9)


def test_copies_bound_an_iteration_by_their_union_and_may_become_faster(capsys: pytest.CaptureFixture[str]) -> None:
    """
    h2d      |------ 500 us ------|          half of it under compute: the ledger has 250 us of copies, the union 500
    compute            |-- 250 --|
    """
    cells: list[Cell] = [("a", "h2d", None, 250_000), ("a", "compute", None, 250_000), ("a", "idle", "tail", 500_000)]
    kinds = [(0, "h2d", 1, 500_000, 500_000, 1), (0, "compute", 1, 250_000, 250_000, 0)]
    shown = window(cells, tables={"kinds": kinds, "iteration_kinds": [(0, i, "h2d", 1, 1, 1, 1) for i in range(5)]})
    most = hiding(shown, 0)
    assert most is not None and (most.kind, most.gain) == ("h2d", 2.0)
    print_device_details(shown, 0)
    assert "at most 2.00x as fast, unless those become faster" in " ".join(capsys.readouterr().out.split())


SIMT = "void cutlass::Kernel2<cutlass_80_simt_sgemm_128x256_8x4_nt_align1>(T1::Params)"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (SIMT, True),
        ("ampere_sgemm_128x64_tn", True),
        ("volta_sgemm_32x128_nn", True),
        ("void magma_sgemmEx_kernel<float, float, float, true, false, 6, 4, 6, 3, 4>(int, int)", True),
        ("void implicit_convolve_sgemm<float, float, 1024, 5, 5, 3, 3, 3, 1, true, false, true>(int)", True),
        (
            "sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize128x64x8_stage3_warpsize2x2x1_ffma_aligna4_alignc4_execute",
            True,
        ),
        ("sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize128x128x16_stage4_warpsize2x2x1_tensor16x8x8_execute", False),
        ("void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x256_16x3_nn_align4>(T1::Params)", False),
        ("ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_64x3_nn", False),
        ("nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNT", False),
        ("void at::native::elementwise_kernel<128, 2>(int)", False),
    ],
)
def test_kernels_that_leave_the_tensor_cores_alone_are_told(name: str, told: bool) -> None:
    rows = [(0, None, name, 9, 700_000, 77_778.0, 0.7), (0, None, "copy", 1, 300_000, 300_000.0, 0.3)]
    sentence = said(window(TRAINING, tables={"top_kernels": rows}))
    assert ("70.0 % of the kernels' time is FP32 matrix multiplication without tensor cores" in sentence) == told


def test_a_few_such_kernels_are_not_told_and_several_are_added() -> None:
    def among(*shares: float) -> str:
        rows = [(0, None, f"{SIMT}{i}", 1, round(share * 1e6), share * 1e6, share) for i, share in enumerate(shares)]
        return said(window(TRAINING, tables={"top_kernels": rows}))

    assert "tensor cores" not in among(0.29)
    assert "45.0 % of the kernels' time is FP32" in among(0.25, 0.2)
