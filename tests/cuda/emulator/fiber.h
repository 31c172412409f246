// A thread of a kernel as a fiber: a stack of its own, and a switch that saves what the calling convention asks a
// function to keep. (swapcontext makes a system call at every switch; a barrier of 256 threads would take 0.1 ms.)
#pragma once

#include <sys/mman.h>

#include <cstddef>

#include "guarded_memory.h"

#if !defined(__x86_64__)
#error "the kernel emulation switches fibers on x86-64 only"
#endif

// Saves this fiber's registers on its stack and its stack pointer in *from, then goes on where `to` left off.
// A jump, since the processor would mispredict a return to another fiber every time.
extern "C" void espalier_switch_fiber(void** from, void* to);
asm(R"(
    .pushsection .text
    .weak espalier_switch_fiber
    .type espalier_switch_fiber, @function
espalier_switch_fiber:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    pop %rdx
    jmp *%rdx
    .size espalier_switch_fiber, . - espalier_switch_fiber
    .popsection
)");

namespace espalier::host {

constexpr std::size_t kStackBytes = 128 << 10;
constexpr int kSavedRegisters = 6;

// A stack with an inaccessible page below it. Pages are only taken when touched; stacks are kept between launches.
class Fiber {
   public:
    bool allocate() {
        void* memory = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) return false;
        stack_ = static_cast<char*>(memory) + kPage;
        return mprotect(memory, kPage, PROT_NONE) == 0;
    }

    // The next switch to this fiber enters `entry`, which never returns. `offset` staggers the stacks: at equal
    // offsets they would share the same few cache lines.
    void start(void (*entry)(), std::size_t offset) {
        void** top = reinterpret_cast<void**>(stack_ + kStackBytes - offset);
        *--top = nullptr;  // where a return address would be
        *--top = reinterpret_cast<void*>(entry);
        pointer_ = top - kSavedRegisters;
    }

    void switch_to(Fiber& other) { espalier_switch_fiber(&pointer_, other.pointer_); }

    bool overflowed_at(const char* address) const { return address >= stack_ - kPage && address < stack_; }

   private:
    char* stack_ = nullptr;
    void* pointer_ = nullptr;
};

}  // namespace espalier::host
