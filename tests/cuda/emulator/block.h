// One block of threads being run: who is ready, who waits where, and what they wait for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda_names.h"

namespace espalier::host {

constexpr unsigned kLanes = 32;

// The place in a kernel that asked for an operation: part of every message.
struct Site {
    const char* op;
    const char* file;
    int line;

    std::string text() const;
    bool operator==(const Site& other) const;
};

// What the kernels' side of the emulation calls. A thread that has to wait lets others run.

// Meets the other 31 lanes. Each hands in a record; the last to arrive calls combine(records by lane), which fills
// in everyone's results. Fails where a lane is at another operation.
void meet_warp(void* record, void (*combine)(void* const* records), Site site);

// Barrier 0 of the whole block; how many threads brought a true `vote`.
unsigned meet_block(bool vote, Site site);

// Hardware barrier `id` of n_threads threads. Without `wait` the thread only counts.
void meet_named(int id, unsigned n_threads, bool wait, Site site);

// An asynchronous copy: the destination is spoiled now and written at the wait.
void start_copy(void* to, const void* from, unsigned bytes, bool valid, Site site);
void commit_copies();
void finish_copies(unsigned open_groups);

unsigned current_lane();
void* dynamic_shared();

// Ends the launch with this message, prefixed by block and thread.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...);

// One launch, as a kernel's own library asks for it. Runs `thread(context)` for every thread of every block.
// static_shared: the memory that __shared__ variables live in; spoiled before every block, as dynamic memory is.
struct Launch {
    const char* kernel;
    dim3 grid, block;
    std::size_t shared_bytes;
    void* static_shared;
    std::size_t static_shared_bytes;
    void (*thread)(void* context);
    void* context;
};
// 0, or 1 and a message in espalier_last_error().
int run(const Launch& launch);

}  // namespace espalier::host

extern "C" const char* espalier_last_error();
