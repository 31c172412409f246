// How fast this card reads memory: what the kernels that read weights are judged by.
#include "cuda/intrinsics.cuh"

namespace espalier {

constexpr int kThreads = 256;
constexpr int kAtOnce = 8;  // loads that a thread has under way

// ---- y[thread of the grid] = exclusive or of all words of its part of x.
//   x uint4 [n]   y uint32 [gridDim.x * 256]   grid: any   block 256
// Bound by memory, once there are some blocks a multiprocessor.
extern "C" __global__ void __launch_bounds__(kThreads) read_stream(const uint4* x, int64_t n, unsigned* y) {
    const int64_t thread = int64_t(blockIdx.x) * kThreads + threadIdx.x, n_threads = int64_t(gridDim.x) * kThreads;
    unsigned word = 0;
    for (int64_t first = thread; first < n; first += kAtOnce * n_threads) {
        uint4 loaded[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            const int64_t at = first + i * n_threads;
            loaded[i] = at < n ? load_stream(x + at) : make_uint4(0, 0, 0, 0);
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) word ^= loaded[i].x ^ loaded[i].y ^ loaded[i].z ^ loaded[i].w;
    }
    y[thread] = word;
}

}  // namespace espalier
