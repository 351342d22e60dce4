"""The kernels and CUDA calls of the synthetic trainings: names in the style of PyTorch, cuBLAS, FlashAttention and NCCL.

Durations are round numbers of the right order for one transformer layer on a data-centre GPU; nothing is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel as the exporter describes it; `mean_ns` is what a large layer's launch takes on average."""

    short: str
    demangled: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    registers: int
    dynamic_shared_bytes: int
    mean_ns: int

    @property
    def mangled(self) -> str:
        """The raw symbol: the name itself for extern "C" kernels, as cuBLAS ships them."""
        return self.short if self.short == self.demangled else f"_Z{len(self.short)}{self.short}v"


def _elementwise(functor: str, width: int, pointers: int, mean_ns: int) -> Kernel:
    functor = f"at::native::{functor}"
    name = (
        f"void at::native::vectorized_elementwise_kernel<(int){width}, {functor}, "
        f"std::array<char *, (unsigned long){pointers}>>(int, T2, T3)"
    )
    return Kernel("vectorized_elementwise_kernel", name, (4096, 1, 1), (128, 1, 1), 32, 0, mean_ns)


def _gemm(rows: int, columns: int, layout: str, splits: int, mean_ns: int) -> Kernel:
    name = f"nvjet_sm90_tst_{rows}x{columns}_64x{splits}_2x1_v_bz_coopA_{layout}"
    return Kernel(name, name, (264, 1, 1), (384, 1, 1), 168, 213_024, mean_ns)


def _plain(short: str, arguments: str, grid: int, block: int, mean_ns: int) -> Kernel:
    return Kernel(short, f"void {short}{arguments}", (grid, 1, 1), (block, 1, 1), 40, 0, mean_ns)


_LAYERNORM = _plain(
    "vectorized_layer_norm_kernel",
    "<c10::BFloat16, float>(int, T2, const T1 *, const T1 *, const T1 *, T2 *, T2 *, T1 *)",
    8192,
    128,
    6_000,
)
_ROPE = _plain(
    "rotary_embedding_kernel", "<c10::BFloat16>(T1 *, const T1 *, const T1 *, int, int, int)", 2048, 256, 4_000
)
_ADD = _elementwise("CUDAFunctor_add<c10::BFloat16>", 8, 3, 4_000)
_GELU = _elementwise("GeluCUDAKernelImpl(at::TensorIteratorBase &, at::native::GeluType)::[lambda()]", 8, 2, 5_000)
_FLASH_TRAITS = "Flash_fwd_kernel_traits<(int)128, (int)128, (int)64, (int)4, (bool)0, (bool)0, cutlass::bfloat16_t>"

LAYER: Final = (
    _LAYERNORM,
    _gemm(256, 128, "NTN", 4, 36_000),
    _ROPE,
    Kernel(
        "flash_fwd_kernel",
        f"void flash::flash_fwd_kernel<{_FLASH_TRAITS}, (bool)0, (bool)1, (bool)0>(flash::Flash_fwd_params)",
        (16, 8, 32), (128, 1, 1), 255, 81_920, 40_000,
    ),
    _gemm(128, 128, "NTN", 4, 16_000),
    _ADD,
    _LAYERNORM,
    _gemm(256, 160, "NTN", 4, 44_000),
    _GELU,
    _gemm(192, 128, "NTN", 4, 44_000),
)  # fmt: skip
"""The ten kernels of a forward layer in launch order: five of attention, four of the MLP, and the norm before it."""

HEAD: Final = (
    _plain("indexSelectLargeIndex", "<c10::BFloat16, long, unsigned int, (int)2>(T1 *, const T1 *, T2 *)", 2112, 128, 8_000),
    _plain(
        "cunn_SoftMaxForward",
        "<(int)4, c10::BFloat16, float, at::native::<unnamed>::LogSoftMaxForwardEpilogue>(T4 *, const T2 *, int)",
        8192, 1024, 60_000,
    ),
    _plain("nll_loss_forward_reduce_cuda_kernel_2d", "<float, float, long>(T1 *, T1 *, const T1 *, const T3 *)", 1, 32, 9_000),
)  # fmt: skip
"""Kernels of the forward pass outside its layers."""

BACKWARD: Final = (
    _gemm(256, 128, "NNT", 4, 42_000),
    _gemm(128, 256, "TNN", 4, 42_000),
    _elementwise("GeluBackwardCUDAKernelImpl(at::TensorIteratorBase &)::[lambda()]", 4, 3, 6_000),
    _gemm(192, 192, "NNT", 3, 40_000),
    _gemm(160, 128, "TNN", 3, 40_000),
    _plain(
        "layer_norm_grad_input_kernel_vectorized",
        "<c10::BFloat16, float>(const T1 *, const T1 *, const T2 *, const T2 *, const T1 *, T1 *, int)",
        8192, 128, 9_000,
    ),
    _plain(
        "GammaBetaBackwardCUDAKernelTemplate",
        "<c10::BFloat16, float, (unsigned int)32, (unsigned int)1, (unsigned int)32>(long, long, const T1 *, T1 *)",
        128, 32, 12_000,
    ),
    Kernel(
        "flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel",
        "void flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel"
        f"<{_FLASH_TRAITS.replace('fwd', 'bwd')}, (bool)0, (bool)1>(flash::Flash_bwd_params)",
        (8, 1, 128), (256, 1, 1), 255, 147_456, 90_000,
    ),
    _ADD,
    _plain("reduce_kernel", "<(int)128, (int)4, at::native::ReduceOp<float, at::native::sum_functor<float>>>(T3)", 512, 128,
           8_000),
)  # fmt: skip

OPTIMIZER: Final = (
    _plain(
        "multi_tensor_apply_kernel",
        "<at::native::<unnamed>::FusedOptimizerTensorListMetadata<(int)4>, "
        "at::native::<unnamed>::FusedAdamMathFunctor<float, (int)4, (at::native::ADAM_MODE)1>>(T1, T2)",
        320, 512, 30_000,
    ),
    _elementwise("AUnaryFunctor<float, float, float, at::native::binary_internal::MulFunctor<float>>", 4, 2, 3_000),
)  # fmt: skip

GRAPH: Final = (_gemm(64, 64, "TNT", 8, 6_000), _ADD, _gemm(64, 128, "TNT", 8, 6_000), _GELU)
"""The nodes of a captured CUDA graph, repeated."""

INIT: Final = (
    _plain("distribution_elementwise_grid_stride_kernel", "<float, (int)4, curandStatePhilox4_32_10>(long, T3, T4)", 1056,
           256, 40_000),
    _elementwise("FillFunctor<float>", 4, 1, 4_000),
)  # fmt: skip

COLLECTIVES: Final = tuple(
    Kernel(short, f"{short}(ncclDevKernelArgsStorage<(unsigned long)4096>)", (24, 1, 1), (544, 1, 1), 96, 83_240, ns)
    for short, ns in (
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL", 180_000),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL", 140_000),
    )
)
COLLECTIVE_RANGES: Final = ("ncclAllReduce", "ncclReduceScatter")
"""The range that NCCL opens around the launch of each of `COLLECTIVES`."""

KERNELS: Final = tuple(dict.fromkeys((*LAYER, *HEAD, *BACKWARD, *OPTIMIZER, *GRAPH, *INIT, *COLLECTIVES)))
"""Every kernel once; its position is its number in the simulation."""

NUMBER: Final = {kernel: number for number, kernel in enumerate(KERNELS)}

DRIVER_CALLS: Final = ("cuLaunchKernelEx", "cuKernelGetAttribute", "cuLibraryLoadData")
"""Calls of the driver API; every other one is of the runtime API."""

CALLS: Final = (
    *DRIVER_CALLS,
    "cudaLaunchKernel_v7000",
    "cudaLaunchKernelExC_v11060",
    "cudaGraphLaunch_v10000",
    "cudaGraphInstantiateWithFlags_v11040",
    "cudaMemcpyAsync_v3020",
    "cudaMemsetAsync_v3020",
    "cudaMalloc_v3020",
    "cudaFree_v3020",
    "cudaHostAlloc_v3020",
    "cudaFreeHost_v3020",
    "cudaEventRecord_v3020",
    "cudaEventQuery_v3020",
    "cudaStreamWaitEvent_v3020",
    "cudaStreamSynchronize_v3020",
    "cudaDeviceSynchronize_v3020",
    "cudaStreamIsCapturing_v10000",
    "cudaFuncGetAttributes_v3020",
)
"""Every CUDA call of the simulation, with the ABI suffix that the exporter writes; its position is its number."""

CALL: Final = {name.partition("_v")[0]: number for number, name in enumerate(CALLS)}
"""Call name without suffix -> its number."""
