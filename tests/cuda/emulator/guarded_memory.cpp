#include "guarded_memory.h"

#include <sys/mman.h>

#include <cstring>

namespace espalier::host {

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kGuard = 1 << 20;
constexpr std::size_t kAlignment = 16;  // of the widest load
constexpr unsigned char kCanary = 0xCB;
constexpr unsigned char kUnwritten = 0xFF;

std::size_t round_up(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

void* GuardedMemory::allocate(std::size_t bytes, const char* what) {
    const std::size_t span = round_up(bytes, kAlignment);
    const std::size_t body = round_up(span ? span : 1, kPage);
    void* memory = mmap(nullptr, body + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    char* const base = static_cast<char*>(memory);
    if (mprotect(base + kGuard, body, PROT_READ | PROT_WRITE)) return nullptr;
    char* const data = base + kGuard + body - span;
    std::memset(base + kGuard, kCanary, body);
    std::memset(data, kUnwritten, bytes);
    buffers_[data] = {base, body, bytes, what};
    return data;
}

bool GuardedMemory::release(void* buffer) {
    const auto found = buffers_.find(static_cast<char*>(buffer));
    if (found == buffers_.end()) return false;
    munmap(found->second.base, found->second.body + 2 * kGuard);
    buffers_.erase(found);
    return true;
}

std::string GuardedMemory::describe(const char* address) const {
    for (const auto& [data, buffer] : buffers_) {
        if (address < buffer.base || address >= buffer.base + buffer.body + 2 * kGuard) continue;
        return "byte " + std::to_string(address - data) + " of a " + buffer.what + " of " +
               std::to_string(buffer.bytes) + " bytes";
    }
    return "";
}

std::string GuardedMemory::take_damage() {
    for (const auto& [data, buffer] : buffers_) {
        char* const body_end = buffer.base + kGuard + buffer.body;
        for (char* p = buffer.base + kGuard; p < body_end; ++p) {
            if (p == data) p += buffer.bytes;
            if (p >= body_end || static_cast<unsigned char>(*p) == kCanary) continue;
            std::memset(p, kCanary, std::size_t((p < data ? data : body_end) - p));
            return describe(p);
        }
    }
    return "";
}

GuardedMemory& device_memory() {
    static GuardedMemory memory;
    return memory;
}

}  // namespace espalier::host
