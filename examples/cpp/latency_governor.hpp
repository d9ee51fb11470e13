// Steers a budget so that frames meet a deadline: a PI controller on a percentile of their latency.
//
//     LatencyGovernor::Options options;
//     options.deadline = 40;                          // milliseconds
//     LatencyGovernor governor(options);
//     context.setScalar("budget", governor.budget());
//     ...run, and measure how long it took...
//     governor.observe(milliseconds);
//
// A larger budget computes fewer pixels. The error is how far the percentile of the last frames lies
// from its target, as a share of the deadline; the target lies a little below the deadline, because
// the percentile of few frames is itself uncertain. Too slow is answered at once and in full, too
// fast slowly, and what lies within `hysteresis` below the target not at all: so the budget rests
// where it works, instead of hunting. The integral stops where the budget does (anti-windup).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <vector>

class LatencyGovernor {
public:
    struct Options {
        double deadline = 33;        // milliseconds
        double percentile = 0.95;    // of the frames in the window that have to meet it
        std::size_t window = 20;     // frames
        double margin = 0.05;        // of the deadline: the target lies so far below it
        double hysteresis = 0.10;    // of the deadline: no change so far below the target
        double proportional = 0.3;   // budget for an error of one deadline
        double integral = 0.15;      // the same, for each frame that it lasts
        double release = 0.2;        // share of the gains when frames are faster than they need be
        double lowest = 0;           // budget; 0 decides as the network was trained to
        double highest = 1;          // from there on no pixel wins that is scored by probabilities
    };

    explicit LatencyGovernor(const Options& options)
        : options_(options), sum_(options.lowest), budget_(options.lowest) {}

    double budget() const { return budget_; }

    // Of the frames in the window, or 0 before the first.
    double latency() const {
        if (frames_.empty()) {
            return 0;
        }
        std::vector<double> sorted(frames_.begin(), frames_.end());
        const auto rank = static_cast<std::size_t>(
            std::ceil(options_.percentile * static_cast<double>(sorted.size())));
        const auto at = sorted.begin() + static_cast<std::ptrdiff_t>(std::max<std::size_t>(rank, 1) - 1);
        std::nth_element(sorted.begin(), at, sorted.end());
        return *at;
    }

    // How long the frame took that was run with budget().
    void observe(double milliseconds) {
        if (!std::isfinite(milliseconds) || milliseconds < 0) {
            return;  // a clock that went wrong is no reason to change anything
        }
        frames_.push_back(milliseconds);
        if (frames_.size() > options_.window) {
            frames_.pop_front();
        }
        const double target = options_.deadline * (1 - options_.margin);
        // A slow frame stays in the window for a while, and is answered once: what counts against the
        // budget is the newest frame, what counts for it is the percentile.
        const double late = (milliseconds - target) / options_.deadline;
        const double slack = (target - latency()) / options_.deadline - options_.hysteresis;
        double error = 0;
        if (late > 0) {
            error = late;
        } else if (slack > 0 && frames_.size() == options_.window) {
            error = -options_.release * slack;
        }
        sum_ = clamped(sum_ + options_.integral * error);
        budget_ = clamped(sum_ + options_.proportional * std::max(error, 0.0));
    }

private:
    double clamped(double budget) const {
        return std::min(std::max(budget, options_.lowest), options_.highest);
    }

    Options options_;
    std::deque<double> frames_;
    double sum_;  // of the integral part: the budget that it has settled on
    double budget_;
};
