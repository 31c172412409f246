// Small kernels for the tests of the emulated CuPy and of the logarithm and the masses.
#include "common/logarithm.h"
#include "common/mass.h"
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

// y = log(x) as draws take it.
extern "C" __global__ void logarithms(const double* x, double* y, int n) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = espalier::logarithm(x[i]);
}

// y = the mass of a token that is x below the highest, as top_p takes it.
extern "C" __global__ void masses(const float* x, float rate, unsigned long long* y, int n) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = espalier::mass_of(x[i], rate);
}
