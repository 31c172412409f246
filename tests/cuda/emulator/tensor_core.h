// The products of mma: compiled once, with the runtime.
#pragma once

namespace espalier::host {

// What a lane brings: its registers of d (read and written), a and b.
template <class C>
struct TileRecord {
    C* d;
    const unsigned *a, *b;
};

// d += a b over the records of 32 lanes. Integer sums are exact. Products of halves are exact; their
// sums are float32 in order of k, which is not the order or the rounding of a device.
void multiply_u8s8(void* const* records);
void multiply_s8s8(void* const* records);
void multiply_f16(void* const* records);

}  // namespace espalier::host
