#include "tensor_core.h"

#include <cstdint>
#include <cstring>

#include "halves.h"

namespace espalier::host {

namespace {

// Operand elements: T as stored in a register, Wide as multiplied.
struct Unsigned8 {
    using T = std::uint8_t;
    using Wide = std::int16_t;
    static Wide widen(T value) { return value; }
};
struct Signed8 {
    using T = std::int8_t;
    using Wide = std::int16_t;
    static Wide widen(T value) { return value; }
};
struct Half {
    using T = std::uint16_t;
    using Wide = float;
    static Wide widen(T bits) { return f16_value(bits); }
};

// The elements of one register, into the row of a tile.
template <class Element>
void unpack(unsigned word, typename Element::Wide* to) {
    constexpr int n = 4 / int(sizeof(typename Element::T));
    typename Element::T values[n];
    std::memcpy(values, &word, sizeof word);
    for (int i = 0; i < n; ++i) to[i] = Element::widen(values[i]);
}

template <class C, class Wide, int kDepth>
C dot(const Wide* row, const Wide* column) {
    C sum = 0;
    for (int k = 0; k < kDepth; ++k) sum += C(row[k]) * C(column[k]);
    return sum;
}

template <class A, class B, class C>
void multiply(void* const* records) {
    using Wide = typename A::Wide;
    constexpr int kPerRegister = 4 / int(sizeof(typename A::T)), kDepth = 8 * kPerRegister, kLanes = 32;
    const auto record = [records](int lane) { return *static_cast<const TileRecord<C>*>(records[lane]); };
    Wide rows[16][kDepth], columns[8][kDepth];
    for (int lane = 0; lane < kLanes; ++lane) {
        const TileRecord<C> r = record(lane);
        const int g = lane / 4, k = lane % 4 * kPerRegister;
        for (int half = 0; half < 2; ++half) {
            unpack<A>(r.a[2 * half], rows[g] + k + half * kDepth / 2);
            unpack<A>(r.a[2 * half + 1], rows[g + 8] + k + half * kDepth / 2);
            unpack<B>(r.b[half], columns[g] + k + half * kDepth / 2);
        }
    }
    for (int lane = 0; lane < kLanes; ++lane)
        for (int i = 0; i < 4; ++i)
            record(lane).d[i] += dot<C, Wide, kDepth>(rows[lane / 4 + i / 2 * 8], columns[lane % 4 * 2 + i % 2]);
}

}  // namespace

void multiply_u8s8(void* const* records) { multiply<Unsigned8, Signed8, int>(records); }
void multiply_s8s8(void* const* records) { multiply<Signed8, Signed8, int>(records); }
void multiply_f16(void* const* records) { multiply<Half, Half, float>(records); }

}  // namespace espalier::host
