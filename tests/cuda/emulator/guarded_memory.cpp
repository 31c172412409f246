#include "guarded_memory.h"

#include <sys/mman.h>

#include <cstring>

namespace espalier::host {

namespace {

constexpr std::size_t kGuard = 1 << 20;
constexpr std::size_t kAlignment = 16;  // of the widest load
constexpr unsigned char kCanary = 0xCB;

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
    buffers_[data] = {data, base, body, bytes, what};
    return data;
}

bool GuardedMemory::release(void* data) {
    const auto found = buffers_.find(static_cast<char*>(data));
    if (found == buffers_.end()) return false;
    const Buffer& buffer = found->second;
    mmap(buffer.base + kGuard, buffer.body, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    freed_.push_back(buffer);
    buffers_.erase(found);
    if (freed_.size() > kQuarantine) {
        munmap(freed_.front().base, freed_.front().body + 2 * kGuard);
        freed_.pop_front();
    }
    return true;
}

bool GuardedMemory::covers(const Buffer& buffer, const char* address) const {
    return address >= buffer.base && address < buffer.base + buffer.body + 2 * kGuard;
}

std::string GuardedMemory::describe(const char* address) const {
    const auto words = [address](const char* state, const Buffer& buffer) {
        return "byte " + std::to_string(address - buffer.data) + " of a " + state + buffer.what + " of " +
               std::to_string(buffer.bytes) + " bytes";
    };
    for (const auto& [data, buffer] : buffers_)
        if (covers(buffer, address)) return words("", buffer);
    for (const Buffer& buffer : freed_)
        if (covers(buffer, address)) return words("freed ", buffer);
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
