// Grids: limits, memory before each block, faults; and the functions that Python calls.
#include "launch.h"

#include <csetjmp>
#include <csignal>
#include <cstring>

#include "guarded_memory.h"

namespace espalier::host {

namespace {

constexpr unsigned kMaxGridYZ = 65535, kMaxBlockZ = 64;
const struct {
    int number;
    const char* what;
} kSignals[] = {
    {SIGSEGV, "an access to memory that is none of its buffers, or misaligned"},
    {SIGBUS, "an access to memory that is none of its buffers"},
    {SIGFPE, "an integer division by zero"},
    {SIGILL, "a trap"},
};
constexpr int kNSignals = sizeof kSignals / sizeof kSignals[0];

unsigned thread_order = kLowestFirst;
void* shared_memory = nullptr;
std::string last_error;
sigjmp_buf fault_return;
std::string fault_message;

void on_signal(int number, siginfo_t* info, void*) {
    for (const auto& signal : kSignals)
        if (signal.number == number)
            fault_message = describe_fault(signal.what, static_cast<const char*>(info->si_addr));
    siglongjmp(fault_return, 1);
}

// While it lives, a fault in a kernel ends the launch and not the process. On a stack of its own: the kernel's may
// be what overflowed.
class FaultHandlers {
   public:
    FaultHandlers() {
        static char stack[64 << 10];
        stack_t own{};
        own.ss_sp = stack;
        own.ss_size = sizeof stack;
        sigaltstack(&own, &old_stack_);
        struct sigaction action {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        for (int i = 0; i < kNSignals; ++i) sigaction(kSignals[i].number, &action, &old_[i]);
    }
    ~FaultHandlers() {
        for (int i = 0; i < kNSignals; ++i) sigaction(kSignals[i].number, &old_[i], nullptr);
        sigaltstack(&old_stack_, nullptr);
    }

   private:
    struct sigaction old_[kNSignals];
    stack_t old_stack_{};
};

std::string refusal(const Launch& launch, std::size_t n_threads) {
    const dim3 &g = launch.grid, &b = launch.block;
    if (!g.x || !g.y || !g.z || g.x > 0x7FFFFFFFu || g.y > kMaxGridYZ || g.z > kMaxGridYZ)
        return "a grid of (" + std::to_string(g.x) + "," + std::to_string(g.y) + "," + std::to_string(g.z) + ") blocks";
    if (!n_threads || b.z > kMaxBlockZ)
        return "a block of (" + std::to_string(b.x) + "," + std::to_string(b.y) + "," + std::to_string(b.z) + ") threads";
    if (n_threads % kLanes) return "a block of " + std::to_string(n_threads) + " threads, which is no whole warps";
    return "";
}

std::string run_grid(const Launch& launch, unsigned n_threads) {
    gridDim = launch.grid;
    blockDim = launch.block;
    unsigned seed = thread_order;
    for (unsigned z = 0; z < launch.grid.z; ++z)
        for (unsigned y = 0; y < launch.grid.y; ++y)
            for (unsigned x = 0; x < launch.grid.x; ++x) {
                blockIdx = {x, y, z};
                std::memset(shared_memory, kUnwritten, launch.shared_bytes);
                std::memset(launch.static_shared, kUnwritten, launch.static_shared_bytes);
                seed = seed * 1664525u + 1013904223u;  // another order in every block
                const std::string error = run_block(launch, n_threads, seed);
                if (!error.empty()) return error;
            }
    const std::string damage = device_memory().take_damage();
    return damage.empty() ? "" : std::string(launch.kernel) + ": a write to " + damage;
}

std::string run_guarded(const Launch& launch, unsigned n_threads) {
    const FaultHandlers handlers;
    if (sigsetjmp(fault_return, 1)) return fault_message;
    return run_grid(launch, n_threads);
}

}  // namespace

unsigned order() { return thread_order; }

void* dynamic_shared() { return shared_memory; }

int run(const Launch& launch) {
    const std::size_t n_threads = std::size_t(launch.block.x) * launch.block.y * launch.block.z;
    last_error = refusal(launch, n_threads);
    if (!last_error.empty()) {
        last_error = std::string(launch.kernel) + ": cannot launch " + last_error;
        return 1;
    }
    shared_memory = device_memory().allocate(launch.shared_bytes, "dynamic shared memory");
    if (!shared_memory || !prepare_threads(unsigned(n_threads))) last_error = "no host memory for the threads' stacks";
    else last_error = run_guarded(launch, unsigned(n_threads));
    device_memory().release(shared_memory);
    shared_memory = nullptr;
    return !last_error.empty();
}

}  // namespace espalier::host

extern "C" {

const char* espalier_last_error() { return espalier::host::last_error.c_str(); }
void espalier_set_order(unsigned order) { espalier::host::thread_order = order; }
void* espalier_allocate(std::size_t bytes) { return espalier::host::device_memory().allocate(bytes, "buffer"); }
int espalier_release(void* buffer) { return espalier::host::device_memory().release(buffer); }
}
