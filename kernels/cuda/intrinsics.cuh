// What a thread of a kernel does together with others, or through PTX: barriers, warp operations, dot products of
// bytes, tensor cores, asynchronous copies, atomics. Kernels call these names and never the instructions, so the
// same .cu files also compile with g++ against the emulation in tests/cuda/ (ESP_CUDA_HOST), which gives every name
// below a meaning on the CPU and checks its use.
// Every warp operation is of all 32 lanes: blocks are whole warps, and no lane may be elsewhere.
// CUDA's scalar names (threadIdx, __shared__, float4, min, __popc, __fmaf_rn, ...) are used as they are. No header of
// the toolkit is included: NVRTC needs no include path but kernels/, and halves are their bits.
#pragma once

#if defined(ESP_CUDA_HOST)
#include "cuda_host.h"
#else

#include "common/portability.h"

#define ESP_DEVICE __device__ __forceinline__

// The block's dynamic shared memory (the launch says how many bytes) as an array of T, aligned to 16 bytes.
#define ESP_DYNAMIC_SHARED(T, name)                                                  \
    extern __shared__ __align__(16) unsigned char esp_dynamic_shared[];              \
    T* const name = reinterpret_cast<T*>(esp_dynamic_shared)

namespace espalier {

ESP_NUMBER unsigned kWholeWarp = 0xFFFFFFFFu;

// ---- barriers

ESP_DEVICE void block_sync() { __syncthreads(); }

// Barriers that also tell every thread for how many, any or all of the block's threads `p` holds.
ESP_DEVICE int block_count(bool p) { return __syncthreads_count(p); }
ESP_DEVICE bool block_any(bool p) { return __syncthreads_or(p); }
ESP_DEVICE bool block_all(bool p) { return __syncthreads_and(p); }

// Hardware barrier id 1..15 of n_threads threads, whole warps; arrive does not wait.
ESP_DEVICE void named_sync(int id, int n_threads) {
    asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}
ESP_DEVICE void named_arrive(int id, int n_threads) {
    asm volatile("barrier.arrive %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

ESP_DEVICE void warp_sync() { __syncwarp(); }

// Earlier writes of this thread are seen by the whole device before later ones.
ESP_DEVICE void fence_device() { __threadfence(); }

// ---- warp operations; T is a type of 32 or 64 bits that CUDA shuffles

template <class T>
ESP_DEVICE T shfl(T v, int lane, int width = 32) {
    return __shfl_sync(kWholeWarp, v, lane, width);
}
template <class T>
ESP_DEVICE T shfl_xor(T v, int lane_bits, int width = 32) {
    return __shfl_xor_sync(kWholeWarp, v, lane_bits, width);
}
template <class T>
ESP_DEVICE T shfl_up(T v, unsigned n_lanes, int width = 32) {
    return __shfl_up_sync(kWholeWarp, v, n_lanes, width);
}
template <class T>
ESP_DEVICE T shfl_down(T v, unsigned n_lanes, int width = 32) {
    return __shfl_down_sync(kWholeWarp, v, n_lanes, width);
}

ESP_DEVICE unsigned warp_ballot(bool p) { return __ballot_sync(kWholeWarp, p); }
ESP_DEVICE bool warp_any(bool p) { return __any_sync(kWholeWarp, p); }
ESP_DEVICE bool warp_all(bool p) { return __all_sync(kWholeWarp, p); }

// T is int or unsigned.
template <class T>
ESP_DEVICE T warp_add(T v) {
    return __reduce_add_sync(kWholeWarp, v);
}
template <class T>
ESP_DEVICE T warp_min(T v) {
    return __reduce_min_sync(kWholeWarp, v);
}
template <class T>
ESP_DEVICE T warp_max(T v) {
    return __reduce_max_sync(kWholeWarp, v);
}

// ---- four bytes of a times four bytes of b, added to c

ESP_DEVICE int dp4a_s8s8(unsigned a, unsigned b, int c) {
    int d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
ESP_DEVICE int dp4a_u8s8(unsigned a, unsigned b, int c) {
    int d;
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
ESP_DEVICE unsigned dp4a_u8u8(unsigned a, unsigned b, unsigned c) {
    unsigned d;
    asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// The low or the high half of a, plus c: two 16-bit values times two bytes, one of which is 0.
ESP_DEVICE unsigned add_half(unsigned a, bool high, unsigned c) {
    unsigned d;
    asm("dp2a.lo.u32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(high ? 0x0100u : 0x0001u), "r"(c));
    return d;
}

// ---- tensor cores: d += a b by one warp, fragments as the PTX manual lays them out. With lane = 4 g + t:
//   m16n8k32  a[0] row g, columns 4t..4t+3   a[1] row g+8   a[2], a[3] the same, columns 16 further
//             b[0] column g, rows 4t..4t+3   b[1] rows 16 further
//   m16n8k16  a[0] row g, columns 2t, 2t+1   a[1] row g+8   a[2], a[3] the same, columns 8 further; b likewise
//             d[0], d[1] row g, columns 2t, 2t+1   d[2], d[3] row g+8

#define ESP_MMA(name, shape, Value, letter)                                                                  \
    ESP_DEVICE void name(Value(&d)[4], const unsigned(&a)[4], const unsigned(&b)[2]) {                       \
        asm volatile("mma.sync.aligned." shape " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"      \
                     : "+" letter(d[0]), "+" letter(d[1]), "+" letter(d[2]), "+" letter(d[3])                \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                    \
    }
ESP_MMA(mma_u8s8, "m16n8k32.row.col.s32.u8.s8.s32", int, "r")
ESP_MMA(mma_s8s8, "m16n8k32.row.col.s32.s8.s8.s32", int, "r")
ESP_MMA(mma_f16, "m16n8k16.row.col.f32.f16.f16.f32", float, "f")
#undef ESP_MMA

ESP_DEVICE unsigned shared_address(const void* p) { return unsigned(__cvta_generic_to_shared(p)); }

// N 8x8 matrices of 16-bit values from shared memory: lane 8i + y brings the address of row y of matrix i (16-byte
// aligned) and gets row lane / 4, columns 2 (lane % 4) and one more, of each; _trans: of the transposed matrices.
#define ESP_LDMATRIX(name, n, shape, outputs, address, ...)                                                   \
    ESP_DEVICE void name(unsigned(&r)[n], const void* row) {                                                  \
        asm volatile("ldmatrix.sync.aligned.m8n8." shape ".shared.b16 {" outputs "}, [" address "];"          \
                     : __VA_ARGS__                                                                            \
                     : "r"(shared_address(row))                                                               \
                     : "memory");                                                                             \
    }
#define ESP_LDMATRIX_BOTH(n, outputs, address, ...)                                          \
    ESP_LDMATRIX(ldmatrix_x##n, n, "x" #n, outputs, address, __VA_ARGS__)                    \
    ESP_LDMATRIX(ldmatrix_x##n##_trans, n, "x" #n ".trans", outputs, address, __VA_ARGS__)
ESP_LDMATRIX_BOTH(1, "%0", "%1", "=r"(r[0]))
ESP_LDMATRIX_BOTH(2, "%0,%1", "%2", "=r"(r[0]), "=r"(r[1]))
ESP_LDMATRIX_BOTH(4, "%0,%1,%2,%3", "%4", "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]))
#undef ESP_LDMATRIX_BOTH
#undef ESP_LDMATRIX

// ---- asynchronous copies of 4, 8 or 16 bytes, global to shared memory; zeros arrive where !valid, and `from` is not
// read. A copy has arrived, for its own thread, after a wait that leaves fewer younger groups open than it has.

template <int kBytes>
ESP_DEVICE void cp_async(void* to, const void* from, bool valid = true) {
    static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async moves 4, 8 or 16 bytes");
    const int n_read = valid ? kBytes : 0;
    if constexpr (kBytes == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(n_read)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from),
                     "n"(kBytes), "r"(n_read)
                     : "memory");
    }
}
ESP_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kOpenGroups>
ESP_DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kOpenGroups) : "memory");
}

// ---- atomics on int, unsigned and unsigned long long; the old value comes back. None on floats: their sums would
// depend on the order of arrival.

template <class T>
ESP_DEVICE T atomic_add(T* p, T v) {
    return atomicAdd(p, v);
}
template <class T>
ESP_DEVICE T atomic_min(T* p, T v) {
    return atomicMin(p, v);
}
template <class T>
ESP_DEVICE T atomic_max(T* p, T v) {
    return atomicMax(p, v);
}
template <class T>
ESP_DEVICE T atomic_or(T* p, T v) {
    return atomicOr(p, v);
}
template <class T>
ESP_DEVICE T atomic_exchange(T* p, T v) {
    return atomicExch(p, v);
}
template <class T>
ESP_DEVICE T atomic_cas(T* p, T expected, T v) {
    return atomicCAS(p, expected, v);
}

// ---- loads of what is read once (weights): past the first-level cache. Aligned to their size.

ESP_DEVICE uint4 load_stream(const uint4* p) {
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
        : "l"(p));
    return v;
}
ESP_DEVICE uint2 load_stream(const uint2* p) {
    uint2 v;
    asm("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
}
ESP_DEVICE unsigned load_stream(const unsigned* p) {
    unsigned v;
    asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}

// A load past the first-level cache: of what another block of this launch has written.
ESP_DEVICE float load_fresh(const float* p) {
    float v;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
    return v;
}

// ---- halves as bits; rounding to nearest even

ESP_DEVICE uint16_t f16_bits(float x) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}
ESP_DEVICE float f16_value(uint16_t bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
ESP_DEVICE unsigned pack_f16(float low, float high) {
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// Of pairs: a + b, a * b, a * b - c, each rounded once.
ESP_DEVICE unsigned add_f16x2(unsigned a, unsigned b) {
    unsigned pair;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(pair) : "r"(a), "r"(b));
    return pair;
}
ESP_DEVICE unsigned mul_f16x2(unsigned a, unsigned b) {
    unsigned pair;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(pair) : "r"(a), "r"(b));
    return pair;
}
ESP_DEVICE unsigned fms_f16x2(unsigned a, unsigned b, unsigned c) {
    unsigned pair;
    asm("{.reg .b32 minus; neg.f16x2 minus, %3; fma.rn.f16x2 %0, %1, %2, minus;}"
        : "=r"(pair)
        : "r"(a), "r"(b), "r"(c));
    return pair;
}

// ---- the rest

// Byte i of the result is byte (selector >> 4 i) & 7 of high:low.
ESP_DEVICE unsigned byte_perm(unsigned low, unsigned high, unsigned selector) {
    return __byte_perm(low, high, selector);
}
// |a - b| of four unsigned bytes.
ESP_DEVICE unsigned abs_diff_u8x4(unsigned a, unsigned b) { return __vabsdiffu4(a, b); }
// The low 32 bits of high:low >> n, the high 32 bits of high:low << n; n modulo 32.
ESP_DEVICE unsigned funnel_shift_r(unsigned low, unsigned high, unsigned n) { return __funnelshift_r(low, high, n); }
ESP_DEVICE unsigned funnel_shift_l(unsigned low, unsigned high, unsigned n) { return __funnelshift_l(low, high, n); }

// 2^x within 2 ulp; results below the smallest normal float are zero.
ESP_DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

}  // namespace espalier

#endif
