// A pass of operations that is run again without Python: some two hundred calls of a decode step become one.
//
// A step knows addresses, not values: what the arrays hold when it runs is what it computes with, so the caller keeps
// them where they are and puts new token ids, positions and tables into them. Steps check every id again.
#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace espalier {

class Program {
public:
    template <class F>
    void add(F&& step) {
        steps_.emplace_back(std::forward<F>(step));
    }
    // Raises what a step raises; the steps after it have not run then.
    void run() const {
        for (const auto& step : steps_) step();
    }
    size_t size() const { return steps_.size(); }

private:
    std::vector<std::function<void()>> steps_;
};

}  // namespace espalier
