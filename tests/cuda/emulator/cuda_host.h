// kernels/cuda/intrinsics.cuh for a host compiler: the same names, run by the emulation's scheduler (block.h) and
// checked. README.md says what is modelled and what is not.
#pragma once

#include <cstdlib>
#include <type_traits>
#include <utility>

#include "block.h"
#include "common/portability.h"
#include "cuda_names.h"
#include "halves.h"
#include "tensor_core.h"

#define ESP_DEVICE inline
#define ESP_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::espalier::host::dynamic_shared())

// The caller's place, for messages; the last parameters of every operation.
#define ESP_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define ESP_HERE \
    { __func__, file, line }

namespace espalier {

// ---- barriers

inline void block_sync(ESP_SITE) { host::meet_block(false, ESP_HERE); }
inline int block_count(bool p, ESP_SITE) { return int(host::meet_block(p, ESP_HERE)); }
inline bool block_any(bool p, ESP_SITE) { return host::meet_block(p, ESP_HERE) != 0; }
inline bool block_all(bool p, ESP_SITE) { return host::meet_block(!p, ESP_HERE) == 0; }
inline void named_sync(int id, int n_threads, ESP_SITE) { host::meet_named(id, unsigned(n_threads), true, ESP_HERE); }
inline void named_arrive(int id, int n_threads, ESP_SITE) {
    host::meet_named(id, unsigned(n_threads), false, ESP_HERE);
}
inline void warp_sync(ESP_SITE) {
    host::meet_warp(nullptr, [](void* const*) {}, ESP_HERE);
}
inline void fence_device() {}

// ---- warp operations

namespace host {

template <class T>
T read_lane(T v, unsigned source, Site site) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 32 or 64 bits");
    struct Record {
        T mine, theirs;
        unsigned source;
    } record{v, v, source};
    const auto exchange = [](void* const* records) {
        for (unsigned i = 0; i < kLanes; ++i) {
            Record& r = *static_cast<Record*>(records[i]);
            r.theirs = static_cast<Record*>(records[r.source])->mine;
        }
    };
    meet_warp(&record, exchange, site);
    return record.theirs;
}

template <class Fold, class T>
T fold_lanes(T v, Site site) {
    const auto fold = [](void* const* records) {
        T all = *static_cast<T*>(records[0]);
        for (unsigned i = 1; i < kLanes; ++i) all = Fold()(all, *static_cast<T*>(records[i]));
        for (unsigned i = 0; i < kLanes; ++i) *static_cast<T*>(records[i]) = all;
    };
    meet_warp(&v, fold, site);
    return v;
}

struct Add {
    unsigned operator()(unsigned a, unsigned b) const { return a + b; }
};
struct Or {
    unsigned operator()(unsigned a, unsigned b) const { return a | b; }
};
struct Min {
    template <class T>
    T operator()(T a, T b) const {
        return b < a ? b : a;
    }
};
struct Max {
    template <class T>
    T operator()(T a, T b) const {
        return a < b ? b : a;
    }
};

}  // namespace host

// A lane of another segment of `width` lanes is never read: the own value comes back, as on the device.
template <class T>
T shfl(T v, int lane, int width = 32, ESP_SITE) {
    const unsigned base = host::current_lane() & ~unsigned(width - 1);
    return host::read_lane(v, base + (unsigned(lane) & unsigned(width - 1)), ESP_HERE);
}
template <class T>
T shfl_xor(T v, int lane_bits, int width = 32, ESP_SITE) {
    const unsigned self = host::current_lane(), source = self ^ unsigned(lane_bits);
    const unsigned end = (self & ~unsigned(width - 1)) + unsigned(width);
    return host::read_lane(v, source < end && source < host::kLanes ? source : self, ESP_HERE);
}
template <class T>
T shfl_up(T v, unsigned n_lanes, int width = 32, ESP_SITE) {
    const unsigned self = host::current_lane(), position = self & unsigned(width - 1);
    return host::read_lane(v, position >= n_lanes ? self - n_lanes : self, ESP_HERE);
}
template <class T>
T shfl_down(T v, unsigned n_lanes, int width = 32, ESP_SITE) {
    const unsigned self = host::current_lane(), position = self & unsigned(width - 1);
    return host::read_lane(v, position + n_lanes < unsigned(width) ? self + n_lanes : self, ESP_HERE);
}

inline unsigned warp_ballot(bool p, ESP_SITE) {
    return host::fold_lanes<host::Or>(unsigned(p) << host::current_lane(), ESP_HERE);
}
inline bool warp_any(bool p, ESP_SITE) { return host::fold_lanes<host::Or>(unsigned(p), ESP_HERE) != 0; }
inline bool warp_all(bool p, ESP_SITE) { return host::fold_lanes<host::Or>(unsigned(!p), ESP_HERE) == 0; }

template <class T>
T warp_add(T v, ESP_SITE) {
    static_assert(std::is_same<T, int>::value || std::is_same<T, unsigned>::value, "int or unsigned");
    return T(host::fold_lanes<host::Add>(unsigned(v), ESP_HERE));
}
template <class T>
T warp_min(T v, ESP_SITE) {
    static_assert(std::is_same<T, int>::value || std::is_same<T, unsigned>::value, "int or unsigned");
    return host::fold_lanes<host::Min>(v, ESP_HERE);
}
template <class T>
T warp_max(T v, ESP_SITE) {
    static_assert(std::is_same<T, int>::value || std::is_same<T, unsigned>::value, "int or unsigned");
    return host::fold_lanes<host::Max>(v, ESP_HERE);
}

// ---- four bytes times four bytes; the sum wraps around

namespace host {

template <class A, class B>
unsigned dot4(unsigned a, unsigned b, unsigned c) {
    for (int shift = 0; shift < 32; shift += 8) c += unsigned(int(A(a >> shift)) * int(B(b >> shift)));
    return c;
}

}  // namespace host

inline int dp4a_s8s8(unsigned a, unsigned b, int c) { return int(host::dot4<int8_t, int8_t>(a, b, unsigned(c))); }
inline int dp4a_u8s8(unsigned a, unsigned b, int c) { return int(host::dot4<uint8_t, int8_t>(a, b, unsigned(c))); }
inline unsigned dp4a_u8u8(unsigned a, unsigned b, unsigned c) { return host::dot4<uint8_t, uint8_t>(a, b, c); }
inline unsigned add_half(unsigned a, bool high, unsigned c) { return (high ? a >> 16 : a & 0xFFFFu) + c; }

// ---- tensor cores

namespace host {

template <class C>
void multiply_tiles(C (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], void (*multiply)(void* const*),
                    Site site) {
    TileRecord<C> record{d, a, b};
    meet_warp(&record, multiply, site);
}

}  // namespace host

inline void mma_u8s8(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], ESP_SITE) {
    host::multiply_tiles(d, a, b, host::multiply_u8s8, ESP_HERE);
}
inline void mma_s8s8(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], ESP_SITE) {
    host::multiply_tiles(d, a, b, host::multiply_s8s8, ESP_HERE);
}
inline void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], ESP_SITE) {
    host::multiply_tiles(d, a, b, host::multiply_f16, ESP_HERE);
}

namespace host {

template <int kMatrices, bool kTransposed>
void load_matrices(unsigned* r, const void* row, Site site) {
    struct Record {
        unsigned* r;
        const char* row;
    } record{r, static_cast<const char*>(row)};
    // Only the first 8 kMatrices lanes' addresses are used.
    if (current_lane() < 8 * kMatrices && reinterpret_cast<std::uintptr_t>(row) % 16)
        fail("%s: the row's address is not a multiple of 16", site.text().c_str());
    const auto load = [](void* const* records) {
        for (int lane = 0; lane < int(kLanes); ++lane)
            for (int matrix = 0; matrix < kMatrices; ++matrix)
                for (int half = 0; half < 2; ++half) {
                    const int y = kTransposed ? lane % 4 * 2 + half : lane / 4;
                    const int x = kTransposed ? lane / 4 : lane % 4 * 2 + half;
                    const char* const from = static_cast<Record*>(records[8 * matrix + y])->row + 2 * x;
                    unsigned* const to = static_cast<Record*>(records[lane])->r + matrix;
                    std::memcpy(reinterpret_cast<char*>(to) + 2 * half, from, 2);
                }
    };
    meet_warp(&record, load, site);
}

}  // namespace host

#define ESP_LDMATRIX(n)                                                                                      \
    inline void ldmatrix_x##n(unsigned (&r)[n], const void* row, ESP_SITE) {                                 \
        host::load_matrices<n, false>(r, row, ESP_HERE);                                                     \
    }                                                                                                        \
    inline void ldmatrix_x##n##_trans(unsigned (&r)[n], const void* row, ESP_SITE) {                         \
        host::load_matrices<n, true>(r, row, ESP_HERE);                                                      \
    }
ESP_LDMATRIX(1)
ESP_LDMATRIX(2)
ESP_LDMATRIX(4)
#undef ESP_LDMATRIX

// ---- asynchronous copies

template <int kBytes>
void cp_async(void* to, const void* from, bool valid = true, ESP_SITE) {
    static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async moves 4, 8 or 16 bytes");
    host::start_copy(to, from, kBytes, valid, ESP_HERE);
}
inline void cp_async_commit() { host::commit_copies(); }
template <int kOpenGroups>
void cp_async_wait() {
    host::finish_copies(kOpenGroups);
}

// ---- atomics: nothing runs between two waits of a thread, so plain operations are atomic

#define ESP_ATOMIC(name, result)                                                                  \
    template <class T>                                                                            \
    T name(T* p, T v) {                                                                           \
        static_assert(std::is_integral<T>::value, "no atomics on floats: their order would show"); \
        const T old = *p;                                                                         \
        *p = result;                                                                              \
        return old;                                                                               \
    }
ESP_ATOMIC(atomic_add, T(typename std::make_unsigned<T>::type(old) + typename std::make_unsigned<T>::type(v)))
ESP_ATOMIC(atomic_min, v < old ? v : old)
ESP_ATOMIC(atomic_max, old < v ? v : old)
ESP_ATOMIC(atomic_or, T(old | v))
ESP_ATOMIC(atomic_exchange, v)
#undef ESP_ATOMIC
template <class T>
T atomic_cas(T* p, T expected, T v) {
    const T old = *p;
    if (old == expected) *p = v;
    return old;
}

// ---- the rest

template <class T>
T load_stream(const T* p) {
    return *p;
}

inline float load_fresh(const float* p) { return *p; }

inline unsigned byte_perm(unsigned low, unsigned high, unsigned selector) {
    const uint64_t bytes = uint64_t(high) << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) result |= unsigned(bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
    return result;
}
inline unsigned funnel_shift_r(unsigned low, unsigned high, unsigned n) {
    return unsigned((uint64_t(high) << 32 | low) >> (n & 31));
}
inline unsigned funnel_shift_l(unsigned low, unsigned high, unsigned n) {
    return unsigned((uint64_t(high) << 32 | low) << (n & 31) >> 32);
}
inline unsigned abs_diff_u8x4(unsigned a, unsigned b) {
    unsigned result = 0;
    for (int shift = 0; shift < 32; shift += 8)
        result |= unsigned(std::abs(int(a >> shift & 255) - int(b >> shift & 255))) << shift;
    return result;
}
inline float exp2_fast(float x) {
    const float y = std::exp2(x);
    return y < 0x1p-126f ? 0.0f : y;
}

}  // namespace espalier
