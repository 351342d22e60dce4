"""Emitted files run on a processor: g++ compiles launcher, kernels and program against ``tests/emulation``, a small CUDA.

What a GPU would do with wrong indices, misaligned vectors or a missing barrier is found here; its speed and its approximate
functions are not. The tasks' references in PyTorch are what is compared with, through the C interface.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import random
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from aisp_trace.kernels import emit, space
from aisp_trace.kernels.task import DTYPES, ITEM_BYTES, Shape, Task
from aisp_trace.kernels.tasks import NAMES, find
from aisp_trace.tests.oracle.deviation import deviation
from aisp_trace.tests.patience import PATIENCE_S

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

if shutil.which("g++") is None:
    pytest.skip("there is no g++", allow_module_level=True)

ROOT: Final = Path(__file__).resolve().parents[1]

Variant = tuple[str, Mapping[str, int | str]]
"""A task and values of its parameters that are not the default."""

OTHER: Final[tuple[Variant, ...]] = (
    ("saxpy", {"vector_bytes": 4, "unroll": 1}),
    ("rmsnorm", {"keep": "shared", "rows_per_block": 2, "items": 1}),
    ("softmax", {"keep": "none", "threads": 128, "unroll": 4}),
    ("layernorm_residual", {"keep": "shared", "vector_bytes": 8, "items": 8}),
    ("rotary", {"vector_bytes": 8, "unroll": 8}),
    ("column_sum", {"reduction": "shared", "tile_bytes": 256}),
    ("column_sum", {"vector_bytes": 4, "tile_bytes": 256, "threads": 128}),
)
"""Values beside the defaults, so that every branch of every template runs once."""

VARIANTS: Final[tuple[Variant, ...]] = (*((name, {}) for name in NAMES), *OTHER)

BESIDE: Final = 64
"""Bytes before and behind each tensor that have to stay as they were."""


def label(variant: Variant) -> str:
    return " ".join([variant[0], *(f"{name}={value}" for name, value in variant[1].items())])


def compiled(source: str, folder: Path, *, program: bool = False) -> Path:
    """The library, or the program, that g++ makes of `source`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.cu").write_text(source, encoding="utf-8")
    flags = [
        "-std=c++17",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unknown-pragmas",
        "-Wno-maybe-uninitialized",
        f"-I{ROOT / 'tests' / 'emulation'}",
    ]
    made = folder / ("program" if program else "library.so")
    kind = [] if program else ["-shared", "-fPIC"]
    command = ["g++", *flags, *kind, "-x", "c++", "test.cu", "-o", made.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return made


def emitted(name: str, changes: Mapping[str, int | str]) -> str:
    task = find(name)
    settings = {**space.defaults(task), **changes}
    assert space.objection(task, settings) is None
    return emit.source(task, settings, "sm_90", "0")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[Path]]:
    """Every variant, two compilers at work."""
    folder = tmp_path_factory.mktemp("emulated")
    pool = ThreadPoolExecutor(2)
    return {label(v): pool.submit(compiled, emitted(*v), folder / str(i)) for i, v in enumerate(VARIANTS)}


class Kernel:
    """A library, called as a harness calls it."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        for name in ("aisp_describe", "aisp_error", "emulated_fault"):
            getattr(self.library, name).restype = ctypes.c_char_p
        self.library.emulated_announce.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def launch(self, dtype: int, inputs: list[int], outputs: list[int], sizes: list[int]) -> int:
        def pointers(addresses: list[int]) -> Any:
            return (ctypes.c_void_p * len(addresses))(*addresses)

        sized = (ctypes.c_longlong * len(sizes))(*sizes)
        code: int = self.library.aisp_launch(dtype, pointers(inputs), pointers(outputs), sized, None)
        return code

    def run(
        self, task: Task, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str, shift: int
    ) -> dict[str, torch.Tensor]:
        """The outputs, made `shift` elements away from where vectors may begin; asserts that nothing else was touched."""
        self.library.emulated_forget()
        placed = {o.name: Placed(o.shape(shape), o.dtype_in(dtype), shift) for o in (*task.inputs, *task.outputs)}
        for name, value in inputs.items():
            placed[name].tensor.copy_(value)
        before = {name: place.memory.clone() for name, place in placed.items()}
        for place in placed.values():
            self.library.emulated_announce(place.tensor.data_ptr(), place.tensor.nbytes)
        names = [[o.name for o in group] for group in (task.inputs, task.outputs)]
        given, made = ([placed[name].tensor.data_ptr() for name in group] for group in names)
        code = self.launch(DTYPES.index(dtype), given, made, [shape[name] for name in task.sizes])
        assert code == 0, self.library.aisp_error(code)
        assert self.library.emulated_fault() == b""
        for name in names[0]:
            assert torch.equal(placed[name].memory, before[name]), f"{name} was changed"
        for name in names[1]:
            assert placed[name].surroundings_are(before[name]), f"something beside {name} was written"
        return {name: placed[name].tensor for name in names[1]}


class Placed:
    """A tensor of NaN within poisoned memory, `shift` elements behind a multiple of 64 bytes."""

    def __init__(self, dims: tuple[int, ...], dtype: str, shift: int) -> None:
        item, count = ITEM_BYTES[dtype], int(torch.Size(dims).numel())
        self.memory = torch.full((count * item + 3 * BESIDE + shift * item,), 255, dtype=torch.uint8)
        self.begin = BESIDE + -self.memory.data_ptr() % BESIDE + shift * item
        self.end = self.begin + count * item
        self.tensor = self.memory[self.begin : self.end].view(getattr(torch, dtype)).view(dims)

    def surroundings_are(self, before: torch.Tensor) -> bool:
        head, tail = slice(0, self.begin), slice(self.end, None)
        return all(bool(torch.equal(self.memory[part], before[part])) for part in (head, tail))


def shapes(task: Task) -> list[Shape]:
    return [shape for shape in task.shapes if task.bytes(shape, "float32") <= 1 << 20]


@pytest.mark.parametrize("variant", VARIANTS, ids=label)
def test_the_kernel_agrees_with_the_task_s_reference(variant: Variant, libraries: dict[str, Future[Path]]) -> None:
    task, kernel = find(variant[0]), Kernel(libraries[label(variant)].result())
    for dtype in task.dtypes:
        for shape in shapes(task):
            for kind, shift in (("random", 0), ("random", 1), ("edge", 0), ("wide", 0), ("special", 0), ("special", 1)):
                inputs = task.draw(torch.Generator().manual_seed(3), shape, dtype, "cpu", kind)
                wanted = task.reference(inputs, shape)
                for name, found in kernel.run(task, inputs, shape, dtype, shift).items():
                    apart = deviation(found, wanted[name])
                    assert apart.within(task.tolerances[dtype]), (dtype, dict(shape), kind, shift, name, apart)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_sampled_combinations_agree_with_the_reference(name: str, tmp_path: Path) -> None:
    """Eight combinations of values a task, each with aligned and other inputs of three types."""
    task = find(name)
    found = random.Random(11).sample(list(space.combinations(task)), 8)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda i: compiled(emitted(name, found[i]), tmp_path / str(i)), range(len(found))))
    for settings, library in zip(found, made, strict=True):
        kernel = Kernel(library)
        for dtype, shape, shift in itertools.product(task.dtypes, shapes(task), (0, 1)):
            inputs = task.draw(torch.Generator().manual_seed(5), shape, dtype, "cpu")
            wanted = task.reference(inputs, shape)
            for output, tensor in kernel.run(task, inputs, shape, dtype, shift).items():
                apart = deviation(tensor, wanted[output])
                assert apart.within(task.tolerances[dtype]), (settings, dtype, dict(shape), shift, output, apart)


def test_a_copy_keeps_every_bit(libraries: dict[str, Future[Path]]) -> None:
    task, kernel = find("paged_gather"), Kernel(libraries["paged_gather"].result())
    shape = {"pages": 8, "sequences": 2, "blocks": 3, "page": 2, "width": 12}
    for dtype in task.dtypes:
        inputs = task.draw(torch.Generator().manual_seed(3), shape, dtype, "cpu")
        inputs["cache"].view(torch.uint8).random_(0, 256)
        found = kernel.run(task, inputs, shape, dtype, 0)["out"]
        assert torch.equal(found.view(torch.uint8), task.eager(inputs, shape, dtype)["out"].view(torch.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_the_program_finds_its_own_kernel_right(name: str, libraries: dict[str, Future[Path]], capfd: Any) -> None:
    kernel = Kernel(libraries[name].result())
    assert kernel.library.main(1, (ctypes.c_char_p * 1)(b"test")) == 0
    ctypes.CDLL(None).fflush(None)
    *lines, last = capfd.readouterr().out.splitlines()
    assert lines and all(line.startswith(f"{name} ") and " right " in line for line in lines)
    assert last == f"{name}: 0 of {len(lines)} checks failed."
    assert any("not aligned" in line for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_a_library_says_what_it_is_and_what_it_refuses(name: str, libraries: dict[str, Future[Path]]) -> None:
    task, kernel = find(name), Kernel(libraries[name].result())
    facts = json.loads(kernel.library.aisp_describe())
    parameters = space.defaults(task)
    assert facts == {"task": name, "parameters": parameters, "dtypes": list(DTYPES), "interface": emit.INTERFACE}
    inputs, outputs, ones = [4096] * len(task.inputs), [4096] * len(task.outputs), [1] * len(task.sizes)
    assert kernel.launch(3, inputs, outputs, ones) == -1
    for place in range(len(ones)):
        for size in (0, -5, 1 << 62):
            sizes = [*ones[:place], size, *ones[place + 1 :]]
            assert kernel.launch(0, inputs, outputs, sizes) == -2, sizes
    assert kernel.launch(0, inputs, [0, *outputs[1:]], ones) == -3
    assert kernel.launch(2, inputs, [4097, *outputs[1:]], ones) == -3
    words = {kernel.library.aisp_error(code) for code in (-1, -2, -3, 0)}
    assert len(words) == 4 and b"a size is below 1, or beyond what a launch can cover" in words


# -- the emulation itself --------------------------------------------------------------------------------------------

PLANTED: Final = {
    "none": "",
    "out of bounds": "load of 16 bytes out of bounds in block 1, thread 31,0",
    "not aligned": "load of 16 bytes not aligned in block 0, thread 0,0",
    "lonely barrier": "threads that wait for each other at different places",
}
"""What is wrong with a kernel -> what the emulation says."""

SOURCE: Final = """
#include <cuda_runtime.h>
__global__ void kernel(const uint4* from, uint4* to, int mode) {
    __shared__ uint4 seen[32];
    const int i = static_cast<int>(blockIdx.x * 32 + threadIdx.x);
    const char* shifted = reinterpret_cast<const char*>(from) + (mode == 2 ? 4 : 0);
    seen[threadIdx.x] = __ldcs(reinterpret_cast<const uint4*>(shifted) + i + (mode == 1));
    if (mode != 3 || threadIdx.x > 0) __syncthreads();
    else __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    __stcs(to + i, seen[31 - threadIdx.x]);
}
extern "C" int launch(const uint4* from, uint4* to, int mode) {
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(2), config.blockDim = dim3(32);
    return cudaLaunchKernelEx(&config, kernel, from, to, mode);
}
"""


def test_the_emulation_finds_what_is_planted(tmp_path: Path) -> None:
    library = ctypes.CDLL(str(compiled(SOURCE, tmp_path)))
    library.emulated_fault.restype = ctypes.c_char_p
    source, result = Placed((256,), "int32", 0), Placed((256,), "int32", 0)
    source.tensor.copy_(torch.arange(256))
    for mode, said in enumerate(PLANTED.values()):
        library.emulated_forget()
        for place in (source, result):
            library.emulated_announce(ctypes.c_void_p(place.tensor.data_ptr()), ctypes.c_size_t(1024))
        pointers = [ctypes.c_void_p(place.tensor.data_ptr()) for place in (source, result)]
        assert library.launch(*pointers, mode) == 0
        assert library.emulated_fault().decode().startswith(said) and bool(said) == bool(library.emulated_fault())
        if mode == 0:
            mirrored = torch.arange(256).view(2, 32, 4).flip(1).flatten()
            assert torch.equal(result.tensor.long(), mirrored)


PARTS: Final = "if (thread % 32 == 0) parts[warp] = value;"


@pytest.mark.parametrize(
    ("task", "right", "wrong"),
    [
        ("rmsnorm", f"{PARTS}\n        __syncthreads();", PARTS),
        ("saxpy", "if (blockIdx.x == 0 && rest < count)", "if (blockIdx.x == 0 && rest + 1 < count)"),
        ("bias_gelu", "if (row < rows) values[k]", "if (row <= rows) values[k]"),
    ],
    ids=["a barrier is missing", "the tail is skipped", "a row too many is read"],
)
def test_a_kernel_that_is_wrong_fails_its_own_check(task: str, right: str, wrong: str, tmp_path: Path) -> None:
    source = emitted(task, {})
    assert right in source
    program = compiled(source.replace(right, wrong), tmp_path, program=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode == 1 and "WRONG" in done.stdout) or (
        done.returncode == 2 and "out of bounds" in done.stderr
    )


CONVERSIONS: Final = """
extern "C" void convert(const unsigned short* halves, float* widened_halves, float* widened_others, const float* values,
                        int count, unsigned short* to_half, unsigned short* to_other) {
    for (int i = 0; i < 65536; ++i) {
        widened_halves[i] = widened(Half{halves[i]});
        widened_others[i] = widened(BFloat{halves[i]});
    }
    for (int i = 0; i < count; ++i) {
        to_half[i] = narrowed<Half>(values[i]).bits;
        to_other[i] = narrowed<BFloat>(values[i]).bits;
    }
}
"""


def test_conversions_are_those_of_pytorch(tmp_path: Path) -> None:
    """Every number of 16 bits widened; their neighbours, the ties between them and any other bits narrowed."""
    library = ctypes.CDLL(str(compiled(emitted("saxpy", {}) + CONVERSIONS, tmp_path)))
    every = torch.arange(65536).to(torch.int16)
    widened = {dtype: every.view(dtype).float() for dtype in (torch.float16, torch.bfloat16)}
    values = torch.cat(
        [*widened.values(), torch.randint(-(2**31), 2**31, (500_000,)).to(torch.int32).view(torch.float32)]
    )
    near = values.view(torch.int32)[:, None] + torch.tensor(
        [0, 1, -1, 0x1000, 0x8000, 0x0FFF, 0x7FFF], dtype=torch.int32
    )
    values = near.flatten().contiguous().view(torch.float32)
    made = [torch.empty(65536) for _ in range(2)]
    narrow = [torch.empty(len(values), dtype=torch.int16) for _ in range(2)]
    places = [every, *made, values, None, *narrow]
    library.convert(*(len(values) if place is None else ctypes.c_void_p(place.data_ptr()) for place in places))
    for wide, narrowed, (dtype, right) in zip(made, narrow, widened.items(), strict=True):
        assert torch.equal(wide.nan_to_num(1.25e-30), right.nan_to_num(1.25e-30))
        assert torch.equal(wide.isnan(), right.isnan()) and torch.equal(wide.signbit(), right.signbit())
        wanted, got = values.to(dtype), narrowed.view(dtype)
        same = (wanted.view(torch.int16) == narrowed) | (wanted.isnan() & got.isnan())
        assert bool(same.all()), values[~same][:5]
