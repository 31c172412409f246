// A pass of operations that is run again without Python: some two hundred calls of a decode step become one.
//
// A step knows addresses, not values: what the arrays hold when it runs is what it computes with, so the caller keeps
// them where they are and puts new token ids, positions and tables into them. Steps check every id again.
#pragma once

#include <chrono>
#include <functional>
#include <utility>
#include <vector>

namespace espalier {

class Program {
public:
    struct Step {
        const char* name;  // of the operation
        std::function<void()> run;
    };

    template <class F>
    void add(const char* name, F&& step) {
        steps_.push_back({name, std::forward<F>(step)});
    }
    // Raises what a step raises; the steps after it have not run then.
    void run() const {
        for (const Step& step : steps_) step.run();
    }
    // Likewise; the seconds of each step.
    std::vector<double> run_timed() const {
        using Clock = std::chrono::steady_clock;
        std::vector<double> seconds;
        for (const Step& step : steps_) {
            const auto started = Clock::now();
            step.run();
            seconds.push_back(std::chrono::duration<double>(Clock::now() - started).count());
        }
        return seconds;
    }
    const std::vector<Step>& steps() const { return steps_; }

private:
    std::vector<Step> steps_;
};

}  // namespace espalier
