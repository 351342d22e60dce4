"""Kernels in short, and names in little room: no two different ones read the same."""

from __future__ import annotations

from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.naming.distinct import fitted, told_apart
from aisp_trace.analyze.naming.kernels import short_name, short_names
from aisp_trace.cli.main import main
from aisp_trace.report.stage_rows import in_tree_order
from aisp_trace.report.terminal.console import Column, table
from aisp_trace.tests.oracle.build import build, span
from aisp_trace.traces.open import open_trace

SAMPLES = Path(__file__).resolve().parents[1] / "traces" / "samples"

AT = "void at::native::"
LOOP = "{lambda()#2}::operator()() const::{lambda()#3}::operator()() const::"

KERNELS = [
    (f"{AT}vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul> >(int)",
     "elementwise vectorized<4> add<bf16>"),
    # as Nsight Systems spells it
    (f"{AT}vectorized_elementwise_kernel<(int)4, at::native::BinaryFunctor<float, float, float, at::native::binary_internal"
     "::MulFunctor<float>>, std::array<char *, (unsigned long)3>>(int, T2, T3)", "elementwise vectorized<4> mul<float>"),
    (f"{AT}vectorized_elementwise_kernel<(int)8, at::native::GeluCUDAKernelImpl(at::TensorIteratorBase &, at::native::GeluType)"
     "::[lambda() (instance 2)]::operator ()() const::[lambda(c10::Half) (instance 1)], std::array<char *, (unsigned long)2>>"
     "(int, T2, T3)", "elementwise vectorized<8> gelu<fp16>"),
    (f"{AT}elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::direct_copy_kernel_cuda(at::"
     f"TensorIteratorBase&)::{LOOP}{{lambda(c10::BFloat16)#1}}>(at::TensorIteratorBase&)::{{lambda(int)#1}}>(int)",
     "elementwise direct_copy<bf16>"),
    (f"{AT}reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float, float, float, float>, unsigned int, "
     "float, 4, 4> >(int)", "reduce mean<float>"),
    (f"{AT}(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous namespace)::"
     "FusedOptimizerTensorListMetadata<4>, at::native::(anonymous namespace)::FusedAdamMathFunctor<float, 4, false>, double>(T)",
     "multi_tensor fused_adam_math<float>"),
    ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128_32x4_nn_align8>(T1::Params)",
     "cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128_32x4_nn_align8"),
    ("void cutlass::device_kernel<at::cuda::detail::enable_3x_kernel_for_sm9x<cutlass::gemm::kernel::GemmUniversal<int>>>(T)",
     "cutlass::device_kernel GemmUniversal"),
    ("sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize128x64x8_stage3_warpsize2x2x1_ffma_aligna4_alignc4_execute_kernel__5x_cublas",
     "sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize128x64x8_stage3_warpsize2x2x1_ffma_aligna4_alignc4"),
    ("nvjet_sm90_hsh_64x8_64x16_4x1_v_bz_splitK_bias_TNT", "nvjet_sm90_hsh_64x8_64x16_4x1_v_bz_splitK_bias_TNT"),
    ("std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, __nv_bfloat16, float, false>(P<int>)",
     "gemvx::kernel"),
    ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false, cutlass::bfloat16_t>, false>"
     "(pytorch_flash::Flash_fwd_params)", "flash_fwd_kernel<128, 128, 64, 4, bf16>"),
    ("triton_poi_fused_add_mul_0", "triton_poi_fused_add_mul_0"),
    ("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<(unsigned long)4096>)", "nccl AllReduce_Sum_f32_RING_LL"),
    ("_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_11FillFunctorIfEEEEviT0_", "vectorized_elementwise_kernel"),
    ("void (anonymous namespace)::softmax_warp_forward<float, float, 8, false>(float*, int)", "softmax_warp_forward"),
    ("typename std::enable_if<true, void>::type my_kernel<int>(int*)", "my_kernel"),
    ("std::enable_if_t<std::is_same<float, float>::value, void> ns::scan_kernel<float, 4>(float*)", "scan_kernel"),
    ("std::enable_if<(((8) > (0)) && ((2) == (2))), void>::type vllm::fused_add_rms_norm_kernel<c10::BFloat16, (int)8>(T1 *)",
     "fused_add_rms_norm_kernel"),
    ("std::vector<int, std::allocator<int> > ns::make<int>(int)", "make"),
    ("auto ns::fn<int>(int) -> void", "fn"),
    ("void ns::Work::operator()<int>(int) const", "Work::operator()"),
    ("ns::Work<float>::operator()(int) const", "Work::operator()"),
    ("<<<>>>)(", "<<<>>>)("),
    ("my kernel", "my kernel"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "short"), KERNELS, ids=[short for _, short in KERNELS])
def test_a_kernel_in_short(name: str, short: str) -> None:
    assert short_name(name) == short


def test_equal_short_names_get_what_tells_them_apart() -> None:
    flash = "void flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, cutlass::half_t>, {}>(P)"
    numbers = "void at::native::reduce_kernel<{}, at::native::ReduceOp<float, at::native::MeanOps<float>>>(T)"
    names = [flash.format("true"), flash.format("false"), numbers.format("128, 4"), numbers.format("512, 1")]
    assert list(short_names(names).values()) and short_names(names) == {
        names[0]: "flash_fwd_kernel<64, 128, fp16> [true]",
        names[1]: "flash_fwd_kernel<64, 128, fp16> [false]",
        names[2]: "reduce mean<float> [128, 4]",
        names[3]: "reduce mean<float> [512, 1]",
    }


def test_the_last_resort_is_a_number_in_the_order_of_the_full_names() -> None:
    long = [f"void f<{c * 200}, {d * 200}>(int)" for c, d in ("ab", "ba", "cc")]
    assert short_names(reversed(long)) == {long[0]: "f", long[1]: "f (2)", long[2]: "f (3)"}
    assert told_apart({"x": "f", "y": "f", "z": "f (2)"}, lambda name: "same") == {"x": "f", "y": "f (3)", "z": "f (2)"}


PARTS = st.sampled_from(
    ["at::", "native::", "f", "g<", ">", "(", ")", "int", ", ", "4", "lambda", " ", "{", "}", "_", "[", "]"]
)
NAMES = st.lists(st.lists(PARTS, max_size=14).map("".join), max_size=8)


@given(NAMES, st.randoms(use_true_random=False))
def test_no_two_kernels_read_the_same_whatever_their_order(names: list[str], rng: Random) -> None:
    short = short_names(names)
    assert set(short) == set(names) and len(set(short.values())) == len(set(names))
    assert short_names(rng.sample(names, len(names))) == short


@pytest.mark.parametrize("sample", [*SAMPLES.glob("h*.xz"), *SAMPLES.glob("*.json.gz")], ids=lambda p: p.name)
def test_the_kernels_of_a_recording_read_differently_and_short(sample: Path) -> None:
    ops = open_trace(sample).ops
    names = (
        ops.filter(pl.col("kind").cast(pl.String).is_in(["compute", "comm"]))["name"].cast(pl.String).unique().to_list()
    )
    short = short_names(names)
    assert len(set(short.values())) == len(names)
    assert all(len(s) <= 100 for s in short.values())
    assert not any(s.startswith(("void ", "at::")) for s in short.values())


# --- little room


def test_the_middle_goes_unless_the_difference_lies_there() -> None:
    one, other = "model.layers.attention.query.projection.weight", "model.layers.attention.value.projection.weight"
    assert "query" in fitted([one, other], 18)[one] and "value" in fitted([one, other], 18)[other]
    assert fitted(["a" * 30], 9) == {"a" * 30: "aaaa…aaaa"}


@given(st.lists(st.text("ab大", max_size=30), max_size=8), st.integers(8, 20))
def test_short_forms_fit_and_differ(texts: list[str], width: int) -> None:
    short = fitted(texts, width)
    assert all(cell_len(one) <= width for one in short.values())
    assert len(set(short.values())) == len(set(texts))


def test_in_a_table_rows_read_differently() -> None:
    """Two layers and two kernels that differ in their middle, in 40 columns."""
    names = [f"model.decoder.block.{part}.projection.weight" for part in ("query", "value")]
    lines = table([Column("stage", "left", shrink=True), Column("ms")], [(n, 1) for n in names], 24).splitlines()
    assert len(set(lines)) == 3 and all(len(line) <= 24 for line in lines)


def test_two_kernels_of_a_printed_table_never_read_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    for sample in ("h100_pipeline_decode.sqlite.xz", "h200x2_ddp.sqlite.xz"):
        assert main(["analyze", str(SAMPLES / sample)]) == 0
        lines = capsys.readouterr().out.splitlines()
        for start in (i for i, line in enumerate(lines) if line.startswith(("kernel ", "collective "))):
            rows = lines[start + 1 : lines.index("", start)]
            assert rows and len(rows) == len(set(rows)), rows
            names = [row.split("  ")[0] for row in rows]
            assert not any("at::native" in name for name in names)
            assert lines[start].startswith("coll") or len(names) == len(set(names)), names


def test_stages_stand_below_what_they_nest_in_the_costliest_first_and_sequences_in_time() -> None:
    ranges = [span("z", 0, 30), span("a", 40, 100), span("b", 45, 50), span("c", 55, 90)]
    ranges += [span(f"step {n}", 200 + 10 * i, 205 + 10 * i + i) for i, n in enumerate((9, 10, 2))]
    found = analyze(build(ranges=ranges), fold=False).stages
    assert in_tree_order(found)["path"].to_list() == ["a", "a/c", "a/b", "z", "step 9", "step 10", "step 2"]
