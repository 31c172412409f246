// Persistent worker threads for the kernels: one run() is one parallel loop over numbered chunks.
//
// A decode step makes about 200 of these loops, so waking must cost microseconds: who waits spins for a moment before
// it sleeps on a futex. Where there are more threads than CPUs nobody spins, since a spinning thread would hold the
// CPU that the working one waits for. Chunks are claimed one at a time, and a loop is over when they are done: it
// waits for the workers that came in, not for those that other processes keep from running.
//
// The caller is worker 0. One caller at a time (a second one waits its turn); chunks must not throw. Threads do not
// survive fork(): make the pool in the process that uses it.
#pragma once

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace espalier {

inline int available_cpus() {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

class ThreadPool {
public:
    using Chunk = void (*)(void* context, int64_t chunk, int worker);

    explicit ThreadPool(int n_threads) : spins_(n_threads <= available_cpus() ? kSpins : 0) {
        for (int worker = 1; worker < n_threads; ++worker) threads_.emplace_back([this, worker] { serve(worker); });
    }
    ~ThreadPool() {
        stopping_ = true;
        start_workers(INT32_MAX);
        for (auto& thread : threads_) thread.join();
    }
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int n_threads() const { return int(threads_.size()) + 1; }

    // f(chunk, worker) for chunk = 0 .. n_chunks - 1, each once, on any worker; returns when all are done.
    template <class F>
    void run(int64_t n_chunks, F&& f) {
        run_raw(n_chunks, [](void* context, int64_t chunk, int worker) { (*static_cast<F*>(context))(chunk, worker); },
                const_cast<void*>(static_cast<const void*>(&f)));
    }

private:
    static constexpr int kSpins = 4000;  // about 50 microseconds of pause instructions
    static constexpr uint32_t kOpen = 1u << 31;

    void run_raw(int64_t n_chunks, Chunk chunk, void* context) {
        const std::lock_guard<std::mutex> one_caller(caller_);
        if (n_chunks <= 1 || threads_.empty()) {
            for (int64_t i = 0; i < n_chunks; ++i) chunk(context, i, 0);
            return;
        }
        chunk_ = chunk, context_ = context, n_chunks_ = n_chunks;
        next_.store(0, std::memory_order_relaxed);
        gate_.store(kOpen, std::memory_order_release);
        start_workers(n_chunks - 1 < INT32_MAX ? int(n_chunks - 1) : INT32_MAX);
        work(0);
        gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
        await_leavers();
    }

    void work(int worker) {
        for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < n_chunks_;) chunk_(context_, i, worker);
    }

    void serve(int worker) {
        for (uint32_t seen = 0;;) {
            seen = await_round(seen);
            if (stopping_) return;
            if (!enter()) continue;
            work(worker);
            leave();
        }
    }

    // False where the loop is over already: a worker that comes in holds the caller until it leaves.
    bool enter() {
        uint32_t gate = gate_.load(std::memory_order_relaxed);
        while ((gate & kOpen) != 0)
            if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire, std::memory_order_relaxed)) return true;
        return false;
    }

    void leave() {
        if (gate_.fetch_sub(1, std::memory_order_seq_cst) == 1 && caller_sleeps_.load(std::memory_order_seq_cst))
            futex(gate_, FUTEX_WAKE_PRIVATE, 1);
    }

    // Until the closed gate has nobody inside.
    void await_leavers() {
        for (int spin = 0; spin < spins_; ++spin) {
            if (gate_.load(std::memory_order_acquire) == 0) return;
            __builtin_ia32_pause();
        }
        caller_sleeps_.store(true, std::memory_order_seq_cst);
        for (uint32_t inside; (inside = gate_.load(std::memory_order_seq_cst)) != 0;) futex(gate_, FUTEX_WAIT_PRIVATE, inside);
        caller_sleeps_.store(false, std::memory_order_relaxed);
    }

    void start_workers(int n_needed) {
        round_.fetch_add(1, std::memory_order_seq_cst);
        if (sleepers_.load(std::memory_order_seq_cst) > 0) futex(round_, FUTEX_WAKE_PRIVATE, uint32_t(n_needed));
    }

    // The number of the round after `seen`.
    uint32_t await_round(uint32_t seen) {
        for (int spin = 0; spin < spins_; ++spin) {
            if (const uint32_t now = round_.load(std::memory_order_acquire); now != seen) return now;
            __builtin_ia32_pause();
        }
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        while (round_.load(std::memory_order_seq_cst) == seen) futex(round_, FUTEX_WAIT_PRIVATE, seen);
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
        return round_.load(std::memory_order_acquire);
    }

    static void futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
        syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation, value, nullptr, nullptr, 0);
    }

    const int spins_;
    std::mutex caller_;
    Chunk chunk_ = nullptr;
    void* context_ = nullptr;
    int64_t n_chunks_ = 0;
    alignas(64) std::atomic<uint32_t> round_{0};
    std::atomic<int> sleepers_{0};
    alignas(64) std::atomic<int64_t> next_{0};
    alignas(64) std::atomic<uint32_t> gate_{0};  // kOpen while chunks may be left, plus the workers inside
    std::atomic<bool> caller_sleeps_{false};
    std::atomic<bool> stopping_{false};
    std::vector<std::thread> threads_;  // last: its threads use all of the above
};

}  // namespace espalier
