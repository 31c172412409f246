// What launch.cpp and block.cpp know of each other.
#pragma once

#include <string>

#include "block.h"

namespace espalier::host {

// Which ready thread goes next: the lowest, the highest, or with any other number one drawn with that seed.
constexpr unsigned kLowestFirst = 0, kHighestFirst = 1;
unsigned order();

// Stacks for n_threads; false where the machine has no memory left.
bool prepare_threads(unsigned n_threads);
// Runs the block that blockIdx names. An error message, or "".
std::string run_block(const Launch& launch, unsigned n_threads, unsigned seed);
// The message for a signal in the running thread: an access past a buffer, a stack overflow, or `what`.
std::string describe_fault(const char* what, const char* address);

}  // namespace espalier::host
