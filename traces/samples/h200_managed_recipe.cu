// Recipe of h200_managed.sqlite: one loop over managed memory (3 x 32 MiB), first as pages fault, then with prefetches.
//
//     nvcc -O2 -arch=native -o managed h200_managed_recipe.cu
//     aisp-trace capture --nsys-arg=--cuda-um-gpu-page-faults=true --nsys-arg=--cuda-um-cpu-page-faults=true -- ./managed
//
// A turn: the host fills two arrays, the device adds them into a third, the host sums that one up.
#include <cstdio>
#include <cstdlib>

#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#define CHECK(call)                                                                          \
    do {                                                                                     \
        cudaError_t status = (call);                                                         \
        if (status != cudaSuccess) {                                                         \
            std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(status));             \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (0)

static const size_t COUNT = size_t(8) << 20;  // floats an array

__global__ void add(const float *a, const float *b, float *out, size_t count) {
    for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < count; i += size_t(gridDim.x) * blockDim.x)
        out[i] = a[i] + b[i];
}

static nvtxDomainHandle_t domain;

static void push(const char *name) {
    nvtxEventAttributes_t event = {};
    event.version = NVTX_VERSION;
    event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    event.messageType = NVTX_MESSAGE_TYPE_ASCII;
    event.message.ascii = name;
    nvtxDomainRangePushEx(domain, &event);
}

static void pop() { nvtxDomainRangePop(domain); }

static void prefetch(const float *array, int device) {
    cudaMemLocation to = {};
    to.type = device < 0 ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
    to.id = device < 0 ? 0 : device;
    CHECK(cudaMemPrefetchAsync(array, COUNT * sizeof(float), to, 0, 0));
}

static double turn(float *a, float *b, float *out, float value, bool ahead) {
    push("fill");
    for (size_t i = 0; i < COUNT; ++i) a[i] = value, b[i] = 1;
    pop();
    if (ahead) {
        push("prefetch");
        prefetch(a, 0), prefetch(b, 0), prefetch(out, 0);
        pop();
    }
    push("add");
    add<<<264, 256>>>(a, b, out, COUNT);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    pop();
    if (ahead) {
        push("prefetch_back");
        prefetch(out, -1);
        CHECK(cudaDeviceSynchronize());
        pop();
    }
    push("sum");
    double sum = 0;
    for (size_t i = 0; i < COUNT; ++i) sum += out[i];
    pop();
    return sum;
}

int main() {
    domain = nvtxDomainCreateA("aisp");
    float *arrays[3];
    for (float *&array : arrays) CHECK(cudaMallocManaged(&array, COUNT * sizeof(float)));
    for (int ahead = 0; ahead < 2; ++ahead) {
        push(ahead ? "prefetched" : "faulting");
        for (int i = 0; i < 3; ++i) {
            double sum = turn(arrays[0], arrays[1], arrays[2], float(i), ahead);
            if (sum != double(COUNT) * (i + 1)) return std::fprintf(stderr, "wrong sum %f\n", sum), 1;
        }
        pop();
    }
    for (float *array : arrays) CHECK(cudaFree(array));
    return 0;
}
