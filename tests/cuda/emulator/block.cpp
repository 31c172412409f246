// The scheduler. Threads run one at a time until they wait; nothing else switches them, so a launch repeats exactly.
#include "block.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <map>

#include "fiber.h"
#include "guarded_memory.h"
#include "launch.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace espalier::host {

namespace {

constexpr int kNamedBarriers = 16;
constexpr unsigned kWholeWarp = 0xFFFFFFFFu;

struct PendingCopy {
    void* to;
    unsigned bytes, group;
    unsigned char data[16];
};

enum class State { kReady, kInWarp, kAtBarrier, kExited };

struct Thread {
    Fiber fiber;
    uint3 index;
    State state;
    Site site;
    int barrier;  // the one it waits at
    void* record;
    void (*combine)(void* const*);
    std::vector<PendingCopy> copies;
    unsigned group;  // copies committed so far, in groups
};

struct Barrier {
    unsigned n_threads, arrived, votes, result;
    unsigned first;  // the thread that came first, for messages
};

struct Warp {
    unsigned ready;  // lanes that can run
    unsigned waiting;  // lanes in a warp operation
    unsigned first;  // the thread that came first
};

// The block in flight. One per process: kernels find it through threadIdx, too.
struct Block {
    std::vector<Thread> threads;  // kept between launches, for their stacks
    std::vector<Warp> warps;
    unsigned ready_warps = 0;  // bit w: a lane of warp w can run; a block has at most 32 warps
    Barrier barriers[kNamedBarriers];
    unsigned n_threads = 0, n_live = 0;
    Thread* current = nullptr;
    Fiber host;
    const Launch* launch = nullptr;
    unsigned random = 1, order = kLowestFirst;
    std::string error;
};
Block block;

unsigned id_of(const Thread& thread) { return unsigned(&thread - block.threads.data()); }
unsigned lane_bit(const Thread& thread) { return 1u << (id_of(thread) % kLanes); }
unsigned warp_bit(const Thread& thread) { return 1u << (id_of(thread) / kLanes); }
Warp& warp_of(const Thread& thread) { return block.warps[id_of(thread) / kLanes]; }

unsigned next_random() {  // xorshift32, Marsaglia 2003
    block.random ^= block.random << 13;
    block.random ^= block.random >> 17;
    return block.random ^= block.random << 5;
}

int lowest(unsigned mask) { return __builtin_ctz(mask); }
int highest(unsigned mask) { return 31 - __builtin_clz(mask); }

int random_of(unsigned mask) {
    for (unsigned skip = next_random() % unsigned(__builtin_popcount(mask)); skip; --skip) mask &= mask - 1;
    return lowest(mask);
}

int chosen_of(unsigned mask) {
    if (block.order == kLowestFirst) return lowest(mask);
    return block.order == kHighestFirst ? highest(mask) : random_of(mask);
}

Thread* next_ready() {
    if (!block.ready_warps) return nullptr;
    const unsigned warp = unsigned(chosen_of(block.ready_warps));
    return &block.threads[warp * kLanes + unsigned(chosen_of(block.warps[warp].ready))];
}

// The running thread no longer counts as ready.
void let_others_run() {
    Thread& self = *block.current;
    Thread* const next = next_ready();
    if (next == &self) return;
    if (!next) return self.fiber.switch_to(block.host);
    block.current = next;
    threadIdx = next->index;
    self.fiber.switch_to(next->fiber);
}

void wait(State state, Site site) {
    Thread& self = *block.current;
    self.state = state;
    self.site = site;
    Warp& warp = warp_of(self);
    warp.ready &= ~lane_bit(self);
    if (!warp.ready) block.ready_warps &= ~warp_bit(self);
}

void wake(Thread& thread) {
    thread.state = State::kReady;
    warp_of(thread).ready |= lane_bit(thread);
    block.ready_warps |= warp_bit(thread);
}

void thread_main() {
    block.launch->thread(block.launch->context);
    wait(State::kExited, {"", "", 0});
    --block.n_live;
    let_others_run();
    __builtin_unreachable();
}

std::string described(const Thread& thread) {
    if (thread.state == State::kExited) return "exited";
    return "wait in " + thread.site.text();
}

// "0-3, 7" for the threads in the list.
std::string ranges(const std::vector<unsigned>& ids) {
    std::string text;
    for (std::size_t i = 0, j; i < ids.size(); i = j) {
        for (j = i + 1; j < ids.size() && ids[j] == ids[j - 1] + 1;) ++j;
        text += (text.empty() ? "" : ", ") + std::to_string(ids[i]);
        if (j > i + 1) text += "-" + std::to_string(ids[j - 1]);
    }
    return text;
}

// Nobody can run and somebody has not exited.
std::string stuck_message() {
    std::map<std::string, std::vector<unsigned>> groups;
    for (unsigned i = 0; i < block.n_threads; ++i) groups[described(block.threads[i])].push_back(i);
    std::string text = "not all threads arrive:";
    for (const auto& [what, ids] : groups) text += " threads " + ranges(ids) + " " + what + ";";
    text.pop_back();
    return text;
}

void arrive(int id, unsigned n_threads, bool vote) {
    Thread& self = *block.current;
    Barrier& barrier = block.barriers[id];
    if (barrier.arrived == 0) {
        barrier.n_threads = n_threads;
        barrier.first = id_of(self);
        barrier.votes = 0;
    } else if (barrier.n_threads != n_threads) {
        fail("barrier %d is of %u threads here and of %u for thread %u", id, n_threads, barrier.n_threads, barrier.first);
    }
    barrier.votes += vote;
    if (++barrier.arrived < n_threads) return;
    barrier.arrived = 0;
    barrier.result = barrier.votes;
    for (unsigned i = 0; i < block.n_threads; ++i) {
        Thread& thread = block.threads[i];
        if (thread.state == State::kAtBarrier && thread.barrier == id) wake(thread);
    }
}

void wait_at_barrier(int id, unsigned n_threads, bool vote, Site site) {
    wait(State::kAtBarrier, site);
    block.current->barrier = id;
    arrive(id, n_threads, vote);
    if (block.current->state == State::kAtBarrier) let_others_run();
}

std::string place() {
    char text[120];
    std::snprintf(text, sizeof text, "%s block (%u,%u,%u)", block.launch->kernel, blockIdx.x, blockIdx.y, blockIdx.z);
    if (!block.current) return text;
    const uint3 t = threadIdx;
    const std::size_t n = std::strlen(text);
    std::snprintf(text + n, sizeof text - n, " thread (%u,%u,%u)", t.x, t.y, t.z);
    return text;
}

}  // namespace

std::string Site::text() const {
    const char* const slash = std::strrchr(file, '/');
    return std::string(op) + " at " + (slash ? slash + 1 : file) + ":" + std::to_string(line);
}

bool Site::operator==(const Site& other) const {
    const auto same = [](const char* a, const char* b) { return a == b || !std::strcmp(a, b); };
    return line == other.line && same(op, other.op) && same(file, other.file);
}

void fail(const char* format, ...) {
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    block.error = place() + ": " + text;
    block.current->fiber.switch_to(block.host);
    __builtin_unreachable();
}

void meet_warp(void* record, void (*combine)(void* const*), Site site) {
    Thread& self = *block.current;
    wait(State::kInWarp, site);
    self.record = record;
    self.combine = combine;
    Warp& warp = warp_of(self);
    if (!warp.waiting) warp.first = id_of(self);
    const Thread& first = block.threads[warp.first];
    if (!(first.site == site) || first.combine != combine)
        fail("the warp diverges: %s, but thread %u waits in %s", site.text().c_str(), warp.first, first.site.text().c_str());
    warp.waiting |= lane_bit(self);
    if (warp.waiting != kWholeWarp) return let_others_run();
    Thread* const lanes = &block.threads[id_of(self) / kLanes * kLanes];
    void* records[kLanes];
    for (unsigned i = 0; i < kLanes; ++i) records[i] = lanes[i].record;
    combine(records);
    warp.waiting = 0;
    for (unsigned i = 0; i < kLanes; ++i) wake(lanes[i]);
}

unsigned meet_block(bool vote, Site site) {
    const Barrier& barrier = block.barriers[0];
    if (barrier.arrived && !(block.threads[barrier.first].site == site))
        fail("the block diverges: %s, but thread %u waits in %s", site.text().c_str(), barrier.first,
             block.threads[barrier.first].site.text().c_str());
    wait_at_barrier(0, block.n_threads, vote, site);
    return barrier.result;
}

void meet_named(int id, unsigned n_threads, bool wait_too, Site site) {
    if (id < 1 || id >= kNamedBarriers) fail("%s: barrier %d; 1 to 15 work", site.text().c_str(), id);
    if (n_threads % kLanes || !n_threads || n_threads > block.n_threads)
        fail("%s: a barrier of %u threads in a block of %u", site.text().c_str(), n_threads, block.n_threads);
    if (wait_too) return wait_at_barrier(id, n_threads, false, site);
    arrive(id, n_threads, false);
}

void start_copy(void* to, const void* from, unsigned bytes, bool valid, Site site) {
    const auto misaligned = [bytes](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % bytes != 0; };
    if (misaligned(to) || misaligned(from)) fail("%s: not aligned to %u bytes", site.text().c_str(), bytes);
    PendingCopy copy{to, bytes, block.current->group, {}};
    if (valid) std::memcpy(copy.data, from, bytes);
    std::memset(to, kUnwritten, bytes);
    block.current->copies.push_back(copy);
}

void commit_copies() { ++block.current->group; }

void finish_copies(unsigned open_groups) {
    Thread& self = *block.current;
    std::size_t n_kept = 0;
    for (const PendingCopy& copy : self.copies) {
        if (copy.group + open_groups < self.group) std::memcpy(copy.to, copy.data, copy.bytes);
        else self.copies[n_kept++] = copy;
    }
    self.copies.resize(n_kept);
}

unsigned current_lane() { return id_of(*block.current) % kLanes; }

bool prepare_threads(unsigned n_threads) {
    while (block.threads.size() < n_threads) {
        Thread thread{};
        if (!thread.fiber.allocate()) return false;
        block.threads.push_back(thread);
    }
    return true;
}

std::string run_block(const Launch& launch, unsigned n_threads, unsigned seed) {
    block.launch = &launch;
    block.n_threads = block.n_live = n_threads;
    block.warps.assign(n_threads / kLanes, Warp{});
    block.ready_warps = 0;
    block.order = order();
    block.random = seed | 1;
    block.error.clear();
    block.current = nullptr;
    std::memset(block.barriers, 0, sizeof block.barriers);
    for (unsigned i = 0; i < n_threads; ++i) {
        Thread& thread = block.threads[i];
        thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        thread.copies.clear();
        thread.group = 0;
        thread.fiber.start(thread_main, (i % 61) * 64);
        wake(thread);
    }
    block.current = next_ready();
    threadIdx = block.current->index;
    block.host.switch_to(block.current->fiber);  // back when nobody can run, or from fail()
    block.current = nullptr;
    if (block.error.empty() && block.n_live) block.error = place() + ": " + stuck_message();
    return block.error;
}

std::string describe_fault(const char* what, const char* address) {
    for (const Thread& thread : block.threads)
        if (thread.fiber.overflowed_at(address))
            return place() + ": its stack of " + std::to_string(kStackBytes) + " bytes overflows";
    const std::string where = device_memory().describe(address);
    return place() + ": " + (where.empty() ? std::string(what) : "access to " + where);
}

}  // namespace espalier::host
