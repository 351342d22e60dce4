"""The fused gated activation of ``clamped_swiglu.cu``, bound with `ctypes`: addresses in, an enqueued launch out."""

from __future__ import annotations

import ctypes

from .build import KernelError, load


class ClampedSwiglu:
    """out = g * sigmoid(alpha * g) * (u + 1) with g = min(gate, limit) and u = clamp(up, -limit, limit), in fp32.

    `capability` is the device's compute capability. Raises `KernelError` as `build.load` does.
    """

    def __init__(self, capability: tuple[int, int]) -> None:
        library = load("clamped_swiglu", capability)
        self._launch = library.aisp_clamped_swiglu
        self._launch.restype = ctypes.c_int
        self._launch.argtypes = [
            *[ctypes.c_void_p] * 3,
            ctypes.c_longlong,
            *[ctypes.c_float] * 2,
            ctypes.c_void_p,
        ]
        self._words = library.aisp_cuda_error
        self._words.restype = ctypes.c_char_p
        self._words.argtypes = [ctypes.c_int]

    def __call__(self, gate: int, up: int, out: int, count: int, alpha: float, limit: float, stream: int) -> None:
        """Enqueue `count` contiguous floats at these device addresses on `stream` (a cudaStream_t; 0: the default one).

        The device must be current on this thread. Raises `KernelError` if CUDA refuses the launch.
        """
        code = self._launch(gate, up, out, count, alpha, limit, stream)
        if code != 0:
            words = self._words(code).decode(errors="replace")
            raise KernelError(f"launching clamped_swiglu on {count} elements failed with CUDA error {code}: {words}")
