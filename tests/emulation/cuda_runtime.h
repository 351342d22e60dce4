// Enough of CUDA for g++ to run emitted files: launcher, kernels and program, on a processor that stands in for the GPU.
//
// A block's threads are fibers of one system thread, switched where they wait: at barriers and shuffles. Blocks run one after
// another, every other one with its threads in reverse order, so that what is read before it is written shows. Loads and stores
// through __ldcs, __ldg and __stcs have to be aligned and within memory that was allocated or announced; the first one that is
// not is a fault, and every copy afterwards fails. Not emulated: rounding of the approximate functions, races between barriers.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ thread_local

struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

constexpr size_t kMostShared = 48 * 1024;
thread_local uint4 aisp_shared[kMostShared / sizeof(uint4)];

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9, cudaErrorIllegalAddress = 700, cudaErrorLaunchFailure = 719 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
using cudaStream_t = struct CUstream*;
struct cudaLaunchConfig_t { dim3 gridDim, blockDim; size_t dynamicSmemBytes; cudaStream_t stream; };

namespace emulated {

inline std::map<uintptr_t, size_t> memory;  // where each piece begins -> its bytes
inline std::string fault;

inline void failed(const std::string& why) {
    if (!fault.empty()) return;
    fault = why + " in block " + std::to_string(blockIdx.x) + ", thread " + std::to_string(threadIdx.x) + "," + std::to_string(threadIdx.y);
}

template <typename W> bool may(const W* pointer, const char* what) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(pointer);
    auto piece = memory.upper_bound(at);
    const bool inside = piece != memory.begin() && at + sizeof(W) <= (--piece)->first + piece->second;
    if (!inside) failed(std::string(what) + " of " + std::to_string(sizeof(W)) + " bytes out of bounds");
    else if (at % sizeof(W) != 0) failed(std::string(what) + " of " + std::to_string(sizeof(W)) + " bytes not aligned");
    return inside && at % sizeof(W) == 0;
}

constexpr size_t kStack = 65536;

struct Barrier { int waiting = 0; unsigned round = 0; };

struct Fiber {
    std::unique_ptr<char[]> stack{new char[kStack]};
    jmp_buf here;
    bool begun = false, done = true;
};

inline std::vector<Fiber> fibers(1024);
inline jmp_buf scheduler;
inline std::function<void()> body;
inline Barrier all, warps[32];
inline int running, at_work[32], current;
inline bool progress;
inline unsigned char slots[1024][16];

inline void pause() { if (_setjmp(fibers[current].here) == 0) _longjmp(scheduler, 1); }

// Wait for the other `threads` of a block or warp. Those that have returned are not waited for.
inline void meet(Barrier& barrier, const int& threads) {
    const unsigned round = barrier.round;
    progress = true;
    ++barrier.waiting;
    while (barrier.round == round) {
        if (barrier.waiting >= threads) barrier.waiting = 0, ++barrier.round, progress = true;
        else pause();
    }
}

inline void enter() {
    for (;; pause()) {  // once for each block
        body();
        fibers[current].done = true;
        --running;
        --at_work[current / 32];
        progress = true;
    }
}

// Go on with the current fiber until it pauses. Contexts only begin them: jumping needs no call of the system.
inline void resume() {
    Fiber& fiber = fibers[current];
    if (_setjmp(scheduler) != 0) return;
    if (fiber.begun) _longjmp(fiber.here, 1);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = kStack;
    makecontext(&context, enter, 0);
    fiber.begun = true;
    setcontext(&context);
}

inline void run_block(int threads, bool backwards) {
    std::memset(aisp_shared, 0xff, sizeof aisp_shared);
    all = Barrier();
    running = threads;
    for (int w = 0; w < 32; ++w) warps[w] = Barrier(), at_work[w] = threads <= w * 32 ? 0 : threads < w * 32 + 32 ? threads - w * 32 : 32;
    for (int t = 0; t < threads; ++t) fibers[t].done = false;
    for (progress = true; running > 0 && progress;) {
        progress = false;
        for (int i = 0; i < threads; ++i) {
            current = backwards ? threads - 1 - i : i;
            const unsigned t = static_cast<unsigned>(current);
            threadIdx = dim3(t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y);
            if (!fibers[current].done) resume();
        }
    }
    if (running == 0) return;
    failed("threads that wait for each other at different places");
    for (Fiber& fiber : fibers) fiber.begun = false;
}

template <typename V> V exchanged(V value, int other) {
    std::memcpy(slots[current], &value, sizeof value);
    meet(warps[current / 32], at_work[current / 32]);
    std::memcpy(&value, slots[other], sizeof value);
    meet(warps[current / 32], at_work[current / 32]);
    return value;
}

}  // namespace emulated

template <typename W> W __ldcs(const W* from) { return emulated::may(from, "load") ? *from : W(); }
template <typename W> W __ldg(const W* from) { return __ldcs(from); }
template <typename W> void __stcs(W* to, W value) { if (emulated::may(to, "store")) *to = value; }
inline void __syncthreads() { emulated::meet(emulated::all, emulated::running); }
template <typename V> V __shfl_xor_sync(unsigned, V value, int step) { return emulated::exchanged(value, emulated::current ^ step); }
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }

template <typename... Expected, typename... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Expected...), Given... given) {
    const dim3& b = config->blockDim;
    const unsigned long long threads = 1ull * b.x * b.y * b.z;
    if (threads == 0 || threads > 1024 || config->gridDim.x == 0 || config->dynamicSmemBytes > kMostShared) return cudaErrorInvalidConfiguration;
    gridDim = config->gridDim, blockDim = b;
    emulated::body = [&] { kernel(given...); };
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) emulated::run_block(static_cast<int>(threads), blockIdx.x % 2 == 1);
    return cudaSuccess;
}

inline cudaError_t cudaMalloc(void** made, size_t bytes) {
    *made = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    emulated::memory[reinterpret_cast<uintptr_t>(*made)] = bytes;
    return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
    emulated::memory.erase(reinterpret_cast<uintptr_t>(memory));
    std::free(memory);
    return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
    std::memcpy(to, from, bytes);
    return emulated::fault.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* devices) { *devices = 1; return cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { *value = 132; return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t code) {
    return code == cudaErrorLaunchFailure ? emulated::fault.c_str() : code == cudaErrorInvalidConfiguration ? "invalid configuration" : "no error";
}

// For who calls aisp_launch from outside: memory that a kernel may use, and what went wrong since it was last asked.
extern "C" inline __attribute__((used)) void emulated_announce(void* start, size_t bytes) { emulated::memory[reinterpret_cast<uintptr_t>(start)] = bytes; }
extern "C" inline __attribute__((used)) void emulated_forget() { emulated::memory.clear(); emulated::fault.clear(); }
extern "C" inline __attribute__((used)) const char* emulated_fault() { return emulated::fault.c_str(); }
