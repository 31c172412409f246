// Kernels that test the emulation itself: every operation once, and every mistake it should catch.
#include "cuda/intrinsics.cuh"

using namespace espalier;

// Row r of out [20, 32] is operation r on one warp. u [3, 32]: random words.
extern "C" __global__ void warp_operations(const unsigned* u, unsigned* out) {
    const unsigned lane = threadIdx.x, a = u[lane], b = u[32 + lane], c = u[64 + lane];
    const float f = __uint_as_float((a & 0x7FFFFF) | 0x3F800000);
    const unsigned results[20] = {
        shfl(a, int(b & 31)),
        shfl(a, int(b & 7), 8),
        shfl_xor(a, 5),
        shfl_up(a, 3),
        shfl_down(a, 3, 16),
        warp_ballot(a & 1),
        unsigned(warp_any(lane == 7)) | unsigned(warp_any(false)) << 1,
        unsigned(warp_all(lane < 32)) | unsigned(warp_all(lane != 7)) << 1,
        warp_add(a),
        warp_max(a),
        unsigned(warp_min(int(a))),
        unsigned(dp4a_s8s8(a, b, int(c))),
        unsigned(dp4a_u8s8(a, b, int(c))),
        dp4a_u8u8(a, b, c),
        byte_perm(a, b, c),
        funnel_shift_r(a, b, c),
        funnel_shift_l(a, b, c),
        __float_as_uint(shfl_xor(f, 1)),
        add_half(a, false, c),
        add_half(a, true, c),
    };
    for (int row = 0; row < 20; ++row) out[32 * row + int(lane)] = results[row];
}

// a [32 lanes, 4], b [32, 2], d [32, 4] registers.
extern "C" __global__ void mma_unsigned(const unsigned* a, const unsigned* b, int* d) {
    const unsigned lane = threadIdx.x;
    unsigned ra[4], rb[2];
    int rd[4];
    for (int i = 0; i < 4; ++i) ra[i] = a[4 * lane + i], rd[i] = d[4 * lane + i];
    for (int i = 0; i < 2; ++i) rb[i] = b[2 * lane + i];
    mma_u8s8(rd, ra, rb);
    for (int i = 0; i < 4; ++i) d[4 * lane + i] = rd[i];
}
extern "C" __global__ void mma_signed(const unsigned* a, const unsigned* b, int* d) {
    const unsigned lane = threadIdx.x;
    unsigned ra[4], rb[2];
    int rd[4];
    for (int i = 0; i < 4; ++i) ra[i] = a[4 * lane + i], rd[i] = d[4 * lane + i];
    for (int i = 0; i < 2; ++i) rb[i] = b[2 * lane + i];
    mma_s8s8(rd, ra, rb);
    for (int i = 0; i < 4; ++i) d[4 * lane + i] = rd[i];
}

// a, b, c [n] pairs of halves -> out [3, n]: a + b, a * b, a * b - c.
extern "C" __global__ void half_pairs(const unsigned* a, const unsigned* b, const unsigned* c, unsigned* out, int n) {
    for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) {
        out[i] = add_f16x2(a[i], b[i]);
        out[n + i] = mul_f16x2(a[i], b[i]);
        out[2 * n + i] = fms_f16x2(a[i], b[i], c[i]);
    }
}

// out [16, 8] float = a [16, 16] b [16, 8], halves, by way of cp.async and ldmatrix. mistake: 1 forgets the wait,
// 2 the commit, 3 waits for one group too few.
extern "C" __global__ void half_tile(const uint16_t* a, const uint16_t* b, float* out, int mistake) {
    __shared__ __align__(16) uint16_t shared_a[16 * 16];
    __shared__ __align__(16) uint16_t shared_b[16 * 8];
    const int lane = int(threadIdx.x);
    cp_async<16>(shared_a + 8 * lane, a + 8 * lane);
    cp_async_commit();
    cp_async<8>(shared_b + 4 * lane, b + 4 * lane);
    if (mistake != 2) cp_async_commit();
    if (mistake == 3) cp_async_wait<1>();
    else if (mistake != 1) cp_async_wait<0>();
    block_sync();
    unsigned ra[4], rb[2];
    float d[4] = {};
    ldmatrix_x4(ra, shared_a + 16 * (lane % 16) + lane / 16 * 8);
    ldmatrix_x2_trans(rb, shared_b + 8 * (lane % 16));
    mma_f16(d, ra, rb);
    for (int i = 0; i < 4; ++i) out[8 * (lane / 4 + i / 2 * 8) + lane % 4 * 2 + i % 2] = d[i];
}

// counts [16] of x [n] modulo 16 with atomics; sums [1] by shuffles, shared memory and barriers; any block shape.
extern "C" __global__ void histogram(const int* x, int* counts, int* sums, int n) {
    __shared__ int warps[32];
    const int thread = int(threadIdx.x + blockDim.x * threadIdx.y), n_threads = int(blockDim.x * blockDim.y);
    int sum = 0;
    for (int i = int(blockIdx.x) * n_threads + thread; i < n; i += int(gridDim.x) * n_threads) {
        atomic_add(counts + x[i] % 16, 1);
        sum += x[i];
    }
    sum = warp_add(sum);
    if (thread % 32 == 0) warps[thread / 32] = sum;
    block_sync();
    if (thread < 32) {
        const int total = warp_add(thread < n_threads / 32 ? warps[thread] : 0);
        if (thread == 0) atomic_add(sums, total);
    }
}

// Warp 1 hands out[i] = i to warp 0 through barriers 1 (filled) and 2 (taken), n times.
extern "C" __global__ void producer_consumer(int* out, int n) {
    __shared__ int box[32];
    const int lane = int(threadIdx.x % 32);
    for (int i = 0; i < n; ++i) {
        if (threadIdx.x >= 32) {
            if (i > 0) named_sync(2, 64);
            box[lane] = 32 * i + lane;
            named_arrive(1, 64);
        } else {
            named_sync(1, 64);
            out[32 * i + lane] = box[31 - lane];
            if (i + 1 < n) named_arrive(2, 64);
        }
    }
}

extern "C" __global__ void votes(const int* x, int* out) {
    const bool odd = x[threadIdx.x] & 1;
    const int count = block_count(odd), any = block_any(odd), all = block_all(odd);
    if (threadIdx.x == 0) out[0] = count, out[1] = any, out[2] = all;
}

extern "C" __global__ void to_halves(const float* x, uint16_t* half, float* back, unsigned* pairs) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    half[i] = f16_bits(x[i]);
    back[i] = f16_value(half[i]);
    pairs[i] = pack_f16(x[i], x[i ^ 1]);
}

// ---- mistakes, on one block of 64 threads. x [64] in and out.

constexpr int kFew = 2;
extern "C" __global__ void __launch_bounds__(32 * kFew, 1) barrier_missed(float* x) {
    if (threadIdx.x != 5 && threadIdx.x != 40) block_sync();
    x[threadIdx.x] = 1;
}
extern "C" __global__ void barriers_differ(float* x) {
    if (threadIdx.x < 32)
        block_sync();
    else
        block_sync();
    x[threadIdx.x] = 1;
}
extern "C" __global__ void shuffle_missed(float* x) {
    if (threadIdx.x != 35) x[threadIdx.x] = shfl_xor(x[threadIdx.x], 1);
}
extern "C" __global__ void warp_operations_differ(float* x) {
    if (threadIdx.x & 1) warp_sync();
    else x[threadIdx.x] = shfl_xor(1.0f, 2);
}
extern "C" __global__ void named_barrier_missed(float* x) {
    if (threadIdx.x < 32) named_sync(3, 64);
    x[threadIdx.x] = 1;
}
extern "C" __global__ void read_past_buffer(float* x) { x[threadIdx.x] = x[threadIdx.x + 1]; }
extern "C" __global__ void write_before_buffer(float* x) { x[int(threadIdx.x) - 1] = 1; }
extern "C" __global__ void write_past_dynamic_shared(float* x) {
    ESP_DYNAMIC_SHARED(float, shared);
    shared[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void null_pointer(float* x) {
    if (x[0] != 12345.0f) x = nullptr;
    x[threadIdx.x] = 1;
}
extern "C" __global__ void barrier_forgotten(float* x) {
    __shared__ float shared[64];
    shared[threadIdx.x] = float(threadIdx.x);
    x[threadIdx.x] = shared[threadIdx.x ^ 32];
}
extern "C" __global__ void shared_unwritten(float* x) {
    ESP_DYNAMIC_SHARED(float, dynamic);
    __shared__ float fixed[64];
    if (x[threadIdx.x] == 12345.0f) fixed[threadIdx.x] = dynamic[threadIdx.x] = 1;
    x[threadIdx.x] = dynamic[threadIdx.x] + (fixed[threadIdx.x] == 0);
}
__device__ __noinline__ float deep(float* x, int n) {
    volatile float frame[256];
    frame[n % 256] = x[0];
    return n == 0 ? frame[0] : deep(x, n - 1) + frame[n % 256];
}
extern "C" __global__ void stack_overflow(float* x) { x[threadIdx.x] = deep(x, 10000); }
extern "C" __global__ void divide(int* x, int by) { x[threadIdx.x] /= by; }
extern "C" __global__ void misaligned_copy(float* x) {
    ESP_DYNAMIC_SHARED(float, shared);
    cp_async<8>(shared + threadIdx.x, x);
}
