// The border of a back end: what it throws becomes a status and two texts.
#pragma once

#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "backends/backend.hpp"

namespace pagdeploy::runtime {

// What a back end refuses, or what was refused to it.
struct Refusal : std::runtime_error {
    Refusal(pag_status status, const std::string& message, std::string remedy)
        : std::runtime_error(message), status(status), remedy(std::move(remedy)) {}

    pag_status status;
    std::string remedy;
};

inline void describe(Failure* failure, const char* message, const char* remedy) {
    std::snprintf(failure->message, sizeof failure->message, "%s", message);
    std::snprintf(failure->remedy, sizeof failure->remedy, "%s", remedy);
}

template <class Function>
pag_status crossing(Failure* failure, Function&& function) noexcept {
    try {
        std::forward<Function>(function)();
        return PAG_OK;
    } catch (const Refusal& refusal) {
        describe(failure, refusal.what(), refusal.remedy.c_str());
        return refusal.status;
    } catch (const std::bad_alloc&) {
        describe(failure, "There is not enough memory.", "Free some, or use smaller inputs.");
        return PAG_ENVIRONMENT;
    } catch (const std::exception& problem) {
        describe(failure, problem.what(), "This is a fault of pagdeploy: please report it.");
        return PAG_FAILED;
    } catch (...) {
        describe(failure, "Something unknown was thrown.",
                 "This is a fault of pagdeploy: please report it.");
        return PAG_FAILED;
    }
}

}  // namespace pagdeploy::runtime
