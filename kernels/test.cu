// saxpy that checks itself: y = a * x + y on the GPU, every element compared with the same sum in double precision.
//
//     make -C kernels run                    build it, run it
//     kernels/build/test [COUNT]             COUNT elements (default 16,777,216)
//     kernels/build/test --host              the processor in the place of the GPU: tries the check without one
//     kernels/build/test --plant             spoil one result before it is checked: must be found
//
// Exits 0 if every element is right, 1 if one is not, 2 if it could not be tried (no GPU, a CUDA error, a wrong word).

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <cuda_runtime.h>

namespace {

constexpr int kThreads = 256;
constexpr float kA = 2.5f;
constexpr size_t kDefaultCount = size_t{1} << 24;
constexpr size_t kMostCount = size_t{1} << 30;  // 4 GiB for each of two vectors, here and on the device

__global__ void saxpy(size_t count, float a, const float* __restrict__ x, float* __restrict__ y) {
    const size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < count) y[i] = a * x[i] + y[i];
}

// Inputs that no two neighbours share, so that an element computed from another's input is seen.
float input_x(size_t i) { return static_cast<float>(i % 8191) * 0.125f - 511.0f; }
float input_y(size_t i) { return static_cast<float>(i % 8179) * -0.25f + 1022.0f; }

// A product and a sum round once each, or once together: at most 2^-24 of the product and of the sum.
bool right(size_t i, float found) {
    const double product = static_cast<double>(kA) * input_x(i);
    const double expected = product + input_y(i);
    const double allowed = std::ldexp(std::fabs(product) + std::fabs(expected), -24) * 1.01;
    return std::fabs(found - expected) <= allowed;  // false for a NaN
}

[[noreturn]] void give_up(const std::string& why) {
    std::fprintf(stderr, "saxpy: %s\n", why.c_str());
    std::exit(2);
}

void require(cudaError_t code, const char* what) {
    if (code != cudaSuccess) give_up(std::string(what) + " failed: " + cudaGetErrorString(code) + ".");
}

void on_device(const std::vector<float>& x, std::vector<float>& y) {
    int devices = 0;
    const cudaError_t found = cudaGetDeviceCount(&devices);
    if (found != cudaSuccess || devices == 0) {
        const std::string why = found != cudaSuccess ? cudaGetErrorString(found) : "the driver lists none";
        give_up("a CUDA GPU is needed and none was found (" + why + "); run it on a machine with one, or with --host.");
    }
    cudaDeviceProp device{};
    require(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
    std::printf("saxpy: on %s\n", device.name);
    const size_t bytes = x.size() * sizeof(float);
    float *device_x = nullptr, *device_y = nullptr;
    require(cudaMalloc(&device_x, bytes), "cudaMalloc");
    require(cudaMalloc(&device_y, bytes), "cudaMalloc");
    require(cudaMemcpy(device_x, x.data(), bytes, cudaMemcpyHostToDevice), "copying x to the device");
    require(cudaMemcpy(device_y, y.data(), bytes, cudaMemcpyHostToDevice), "copying y to the device");
    const unsigned blocks = static_cast<unsigned>((x.size() + kThreads - 1) / kThreads);
    saxpy<<<blocks, kThreads>>>(x.size(), kA, device_x, device_y);
    require(cudaGetLastError(), "launching saxpy");
    require(cudaMemcpy(y.data(), device_y, bytes, cudaMemcpyDeviceToHost), "copying y back");
    require(cudaFree(device_x), "cudaFree");
    require(cudaFree(device_y), "cudaFree");
}

void on_host(const std::vector<float>& x, std::vector<float>& y) {
    for (size_t i = 0; i < x.size(); ++i) y[i] = kA * x[i] + y[i];
}

size_t count_of(const char* word) {
    char* end = nullptr;
    const unsigned long long count = std::strtoull(word, &end, 10);
    if (word[0] < '0' || word[0] > '9' || *end != '\0' || count == 0 || count > kMostCount) {
        give_up(std::string("\"") + word + "\" is neither --host, --plant nor a count from 1 to 1073741824.");
    }
    return static_cast<size_t>(count);
}

}  // namespace

int main(int argc, char** argv) {
    size_t count = kDefaultCount;
    bool host = false, plant = false;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--host") == 0) host = true;
        else if (std::strcmp(argv[i], "--plant") == 0) plant = true;
        else count = count_of(argv[i]);
    }
    std::vector<float> x(count), y(count);
    for (size_t i = 0; i < count; ++i) x[i] = input_x(i), y[i] = input_y(i);

    host ? on_host(x, y) : on_device(x, y);
    if (plant) y[count / 2] = std::nextafter(y[count / 2], INFINITY) + 1.0f;

    size_t wrong = 0, first = 0;
    for (size_t i = 0; i < count; ++i) {
        if (right(i, y[i])) continue;
        if (wrong++ == 0) first = i;
    }
    if (wrong > 0) {
        std::fprintf(stderr, "saxpy: %zu of %zu elements are wrong; the first is element %zu: %.9g, where %.9g is right.\n",
                     wrong, count, first, y[first], static_cast<double>(kA) * input_x(first) + input_y(first));
        return 1;
    }
    std::printf("saxpy: all %zu elements are right.\n", count);
    return 0;
}
