// Two small kernels for the tests of the emulated CuPy.
#include "cuda/intrinsics.cuh"

// y [n] += a x [n].
extern "C" __global__ void axpy(float a, const float* x, float* y, int n) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = __fmaf_rn(a, x[i], y[i]);
}

// *counter += 1, by one thread.
extern "C" __global__ void count(int* counter) {
    if (threadIdx.x == 0) *counter += 1;
}
