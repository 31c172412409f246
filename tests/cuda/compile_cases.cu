// Kernels whose machine code the tests of tools/cuda_compile.py and tools/cuda_count.py know beforehand.
#include "cuda/intrinsics.cuh"

using namespace espalier;

// Per thread and trip: two 16-byte loads, sixteen weights, four dp4a.
extern "C" __global__ void __launch_bounds__(32) counted(const uint4* weights, const uint4* x, int* y, int n) {
    int sum = 0;
#pragma unroll 1
    for (int i = int(threadIdx.x); i < n; i += 32) {
        const uint4 w = load_stream(weights + i), a = load_stream(x + i);
        sum = dp4a_s8s8(w.x, a.x, sum);
        sum = dp4a_s8s8(w.y, a.y, sum);
        sum = dp4a_s8s8(w.z, a.z, sum);
        sum = dp4a_s8s8(w.w, a.w, sum);
    }
    y[threadIdx.x] = sum;
}

// 128 values live at once in a kernel that may have 64 registers.
extern "C" __global__ void __launch_bounds__(1024) spilling(const float* x, float* y, int n) {
    float values[128];
#pragma unroll
    for (int i = 0; i < 128; ++i) values[i] = x[i * n + int(threadIdx.x)];
#pragma unroll 1
    for (int trip = 0; trip < n; ++trip)
#pragma unroll
        for (int i = 0; i < 128; ++i) values[i] = __fmaf_rn(values[i], values[(i + 1) % 128], values[(i + 7) % 128]);
#pragma unroll
    for (int i = 0; i < 128; ++i) y[i * n + int(threadIdx.x)] = values[i];
}

// An array whose index only a run knows.
extern "C" __global__ void __launch_bounds__(32) indexing(const float* x, float* y, int n) {
    float values[64];
    for (int i = 0; i < 64; ++i) values[i] = x[i];
    float sum = 0;
    for (int i = 0; i < n; ++i) sum += values[(i * n) & 63];
    y[threadIdx.x] = sum;
}

__device__ __noinline__ float helper(float x, int n) {
    for (int i = 0; i < n; ++i) x = __fmaf_rn(x, x, 1.0f);
    return x;
}
extern "C" __global__ void __launch_bounds__(32) calling(const float* x, float* y, int n) {
    y[threadIdx.x] = helper(x[threadIdx.x], n);
}
