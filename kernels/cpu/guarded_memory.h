// Zeroed memory whose last byte lies against a page that nobody may touch: a kernel that runs over the end of a
// weight or a scratch buffer ends the process there, instead of working with a neighbour's bytes.
//
// So a buffer starts where its size puts it: on a cache line if the size is a multiple of 64, which holds for all
// that is read in whole vectors. From 2 MiB on it starts on a huge page instead, which saves most TLB misses of a
// mat-vec, and the guard is up to a page from its end; nothing is mapped beyond, so no memory is rounded up.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <new>
#include <utility>

namespace espalier {

class GuardedMemory {
public:
    GuardedMemory() = default;
    // n_bytes >= 1. Throws std::bad_alloc.
    explicit GuardedMemory(int64_t n_bytes) {
        const bool huge = n_bytes >= kHugePage;
        const int64_t pages = round_up(n_bytes, kPage), mapped = pages + kPage + (huge ? kHugePage : 0);
        void* memory = mmap(nullptr, size_t(mapped), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        start_ = static_cast<uint8_t*>(memory);
        if (huge) {
            uint8_t* aligned = reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<intptr_t>(start_), kHugePage));
            unmap(start_, aligned);
            unmap(aligned + pages + kPage, start_ + mapped);
            start_ = aligned;
            madvise(start_, size_t(n_bytes / kHugePage * kHugePage), MADV_HUGEPAGE);
        }
        mapped_ = pages + kPage;
        if (mprotect(start_ + pages, size_t(kPage), PROT_NONE) != 0) {
            release();
            throw std::bad_alloc();  // the system allows no more mappings
        }
        data_ = huge ? start_ : start_ + (pages - n_bytes);
    }
    ~GuardedMemory() { release(); }
    GuardedMemory(GuardedMemory&& other) noexcept { swap(other); }
    GuardedMemory& operator=(GuardedMemory&& other) noexcept {
        swap(other);
        return *this;
    }

    uint8_t* data() const { return data_; }

private:
    static constexpr int64_t kPage = 4096, kHugePage = int64_t(2) << 20;

    static int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
    static void unmap(uint8_t* first, uint8_t* last) {
        if (first != last) munmap(first, size_t(last - first));
    }
    void release() { unmap(start_, start_ + mapped_); }
    void swap(GuardedMemory& other) {
        std::swap(start_, other.start_), std::swap(mapped_, other.mapped_), std::swap(data_, other.data_);
    }

    uint8_t* start_ = nullptr;
    int64_t mapped_ = 0;
    uint8_t* data_ = nullptr;
};

// Scratch of a kernel that is asked for again and again: grows, never shrinks. What it held is forgotten, and the
// last byte asked for is the last before the guard.
class ScratchBuffer {
public:
    uint8_t* bytes(int64_t n) {
        if (n > capacity_) {
            capacity_ = 0;
            memory_ = GuardedMemory();  // the old one goes before the new one comes
            const int64_t capacity = (n + n / 4 + 63) / 64 * 64;
            memory_ = GuardedMemory(capacity);
            capacity_ = capacity;
        }
        return memory_.data() + (capacity_ - n);
    }
    template <class T>
    T* of(int64_t n) {
        return reinterpret_cast<T*>(bytes(n * int64_t(sizeof(T))));
    }

private:
    GuardedMemory memory_;
    int64_t capacity_ = 0;
};

}  // namespace espalier
