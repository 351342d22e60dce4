// clamped_swiglu: out = min(g, limit) * sigmoid(alpha * min(g, limit)) * (clamp(u, -limit, limit) + 1), element by element.
//
// The gated activation of a mixture-of-experts layer, in one pass: two floats are read and one is written for each
// element, twelve bytes, whatever the number of operations in between. The same formula as a chain of framework
// operations writes six temporaries and reads them back.
//
// Built by build.py into a shared library and called through the C functions at the end, from clamped_swiglu.py.

#include <cstdint>
#include <cuda_runtime.h>

namespace {

constexpr int kThreads = 256;
constexpr int kVector = 4;  // floats of one 16-byte access, the widest a thread can make

// fp32 with the accurate expf: the library is built without fast math, so that rounding alone separates it from fp64.
__device__ __forceinline__ float activate(float gate, float up, float alpha, float limit) {
    // `fminf` and `fmaxf` return the other operand for a NaN; a comparison that is false for NaN keeps it.
    const float g = gate > limit ? limit : gate;
    const float bounded = up > limit ? limit : up;
    const float u = bounded < -limit ? -limit : bounded;
    return g * (1.0f / (1.0f + expf(-alpha * g))) * (u + 1.0f);
}

// One thread, four elements. Everything is touched once, so loads and stores ask to be evicted first (cs: streaming).
__global__ void __launch_bounds__(kThreads)
clamped_swiglu4(const float4* __restrict__ gate, const float4* __restrict__ up, float4* __restrict__ out, int64_t count,
                float alpha, float limit) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= count) return;
    const float4 g = __ldcs(gate + i);
    const float4 u = __ldcs(up + i);
    __stcs(out + i, make_float4(activate(g.x, u.x, alpha, limit), activate(g.y, u.y, alpha, limit),
                                activate(g.z, u.z, alpha, limit), activate(g.w, u.w, alpha, limit)));
}

// The same, one element a thread: for the last one to three, and for pointers that are not multiples of 16.
__global__ void __launch_bounds__(kThreads)
clamped_swiglu1(const float* __restrict__ gate, const float* __restrict__ up, float* __restrict__ out, int64_t count,
                float alpha, float limit) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < count) out[i] = activate(gate[i], up[i], alpha, limit);
}

unsigned blocks(int64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % (kVector * sizeof(float)) == 0; }

}  // namespace

// Enqueue `count` elements on `stream` (a cudaStream_t; null is the legacy default stream) of the current device and
// return at once. `gate`, `up` and `out` are device pointers; `out` may be neither of the others. At most
// 2^31 - 1 blocks of 256 threads fit a launch: 549,755,813,632 elements, one without 16-byte alignment a quarter.
// Returns 0, or the cudaError_t of the launch, which `aisp_cuda_error` puts into words.
extern "C" int aisp_clamped_swiglu(const float* gate, const float* up, float* out, long long count, float alpha,
                                   float limit, void* stream) {
    if (count < 0) return static_cast<int>(cudaErrorInvalidValue);
    const cudaStream_t on = static_cast<cudaStream_t>(stream);
    const int64_t wide = aligned(gate) && aligned(up) && aligned(out) ? count / kVector : 0;
    const int64_t rest = count - wide * kVector;
    if (wide > 0) {
        clamped_swiglu4<<<blocks(wide), kThreads, 0, on>>>(
            reinterpret_cast<const float4*>(gate), reinterpret_cast<const float4*>(up), reinterpret_cast<float4*>(out),
            wide, alpha, limit);
    }
    if (rest > 0) {
        const int64_t done = wide * kVector;
        clamped_swiglu1<<<blocks(rest), kThreads, 0, on>>>(gate + done, up + done, out + done, rest, alpha, limit);
    }
    return static_cast<int>(cudaGetLastError());
}

extern "C" const char* aisp_cuda_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
