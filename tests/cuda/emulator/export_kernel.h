// Makes a kernel callable from Python: ESP_EXPORT_KERNEL(k, what its __launch_bounds__ says) defines launch_k. The
// harness writes one line per kernel.
#pragma once

#include <link.h>

#include <cstdio>
#include <string>
#include <tuple>

#include "block.h"

namespace espalier::host {

inline thread_local char shared_anchor;  // gives every library some thread-local storage to be found by

struct StaticShared {
    char* begin;
    std::size_t bytes;
};

// The thread-local storage of this library: its __shared__ variables.
inline StaticShared static_shared() {
    shared_anchor = 0;  // the storage exists from the first access on
    StaticShared found{&shared_anchor, 0};
    const auto visit = [](dl_phdr_info* info, std::size_t, void* result) {
        StaticShared& out = *static_cast<StaticShared*>(result);
        char* const begin = static_cast<char*>(info->dlpi_tls_data);
        for (int i = 0; begin && i < info->dlpi_phnum; ++i) {
            const std::size_t bytes = info->dlpi_phdr[i].p_memsz;
            if (info->dlpi_phdr[i].p_type != PT_TLS || &shared_anchor < begin || &shared_anchor >= begin + bytes) continue;
            out = {begin, bytes};
            return 1;
        }
        return 0;
    };
    dl_iterate_phdr(visit, &found);
    return found;
}

// arguments[i] points at sizes[i] bytes; a size that is not the parameter's is refused (the driver would read on).
template <class... P, std::size_t... I>
int launch(const char* name, void (*kernel)(P...), unsigned max_threads, const unsigned* grid, const unsigned* block, std::size_t shared_bytes,
           void** arguments, const std::size_t* sizes, std::size_t n_arguments, std::string& error,
           std::index_sequence<I...>) {
    constexpr std::size_t kWanted[] = {sizeof(P)..., 0};
    if (block[0] * block[1] * block[2] > max_threads) {
        error = std::string(name) + " is compiled for at most " + std::to_string(max_threads) + " threads (__launch_bounds__)";
        return 1;
    }
    if (n_arguments != sizeof...(P)) {
        error = std::string(name) + " takes " + std::to_string(sizeof...(P)) + " arguments, not " + std::to_string(n_arguments);
        return 1;
    }
    for (std::size_t i = 0; i < n_arguments; ++i)
        if (sizes[i] != kWanted[i]) {
            error = std::string(name) + ": argument " + std::to_string(i) + " is of " + std::to_string(kWanted[i]) +
                    " bytes, not " + std::to_string(sizes[i]);
            return 1;
        }
    std::tuple<P...> values(*static_cast<P*>(arguments[I])...);
    auto body = [&] { std::apply(kernel, values); };
    const StaticShared shared = static_shared();
    const Launch request{name,
                         {grid[0], grid[1], grid[2]},
                         {block[0], block[1], block[2]},
                         shared_bytes,
                         shared.begin,
                         shared.bytes,
                         [](void* context) { (*static_cast<decltype(body)*>(context))(); },
                         &body};
    const int status = run(request);
    error = status ? espalier_last_error() : "";
    return status;
}

template <class... P>
std::index_sequence_for<P...> parameter_indices(void (*)(P...)) {
    return {};
}

}  // namespace espalier::host

#define ESP_EXPORT_KERNEL(k, ...)                                                                                    \
    extern "C" __attribute__((visibility("default"))) int launch_##k(                                                \
        const unsigned* grid, const unsigned* block, std::size_t shared_bytes, void** arguments,                     \
        const std::size_t* sizes, std::size_t n_arguments, char* message, std::size_t message_bytes) {               \
        constexpr unsigned kBounds[] = {__VA_ARGS__}; /* threads, and blocks that should fit a multiprocessor */     \
        std::string error;                                                                                           \
        const int status =                                                                                           \
            espalier::host::launch(#k, k, kBounds[0], grid, block, shared_bytes, arguments, sizes, n_arguments,      \
                                   error, espalier::host::parameter_indices(k));                                     \
        std::snprintf(message, message_bytes, "%s", error.c_str());                                                  \
        return status;                                                                                               \
    }
