// Device memory of the emulation: every buffer ends at an inaccessible mebibyte and has another before it, so that an
// access past its end faults in the thread that makes it.
//   | guard | canary bytes | buffer | slack to 16 bytes: canary | guard |
// The canary is read back after a launch: it betrays writes just before a buffer and in its slack. Reads there get
// garbage. New memory is all ones: NaN as a float or a half, -1 as an integer.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <string>

namespace espalier::host {

constexpr std::size_t kPage = 4096;
constexpr unsigned char kUnwritten = 0xFF;  // what memory holds before anybody writes there

class GuardedMemory {
   public:
    // nullptr where the machine has no memory left.
    void* allocate(std::size_t bytes, const char* what);
    // False where `data` is no buffer of ours. Its addresses stay inaccessible for the next kQuarantine releases.
    bool release(void* data);

    // What lies at `address`, in words: "byte 256 of a buffer of 256 bytes". Empty where nothing of ours is near.
    std::string describe(const char* address) const;
    // The first damaged canary in those words, made whole again; empty where all are.
    std::string take_damage();

   private:
    static constexpr std::size_t kQuarantine = 1024;

    struct Buffer {
        char* data;
        char* base;  // of the guard in front
        std::size_t body;  // whole pages between the guards
        std::size_t bytes;
        const char* what;
    };
    bool covers(const Buffer& buffer, const char* address) const;

    std::map<char*, Buffer> buffers_;
    std::deque<Buffer> freed_;
};

GuardedMemory& device_memory();

}  // namespace espalier::host
