// What went wrong inside of the library, on its way to the border, where it becomes a status.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "pagdeploy/pagdeploy.h"

namespace pagdeploy::runtime {

// One sentence that names the thing, and one that says what to do about it.
class Problem : public std::exception {
public:
    Problem(pag_status status, std::string message, std::string remedy)
        : status_(status), message_(std::move(message)), remedy_(std::move(remedy)) {}

    pag_status status() const { return status_; }
    const char* what() const noexcept override { return message_.c_str(); }
    const char* remedy() const noexcept { return remedy_.c_str(); }

private:
    pag_status status_;
    std::string message_;
    std::string remedy_;
};

// The calling thread's last failure. Kept in place: there may be no memory to say that there is none.
void report(const char* message, const char* remedy) noexcept;
const char* reportedMessage() noexcept;
const char* reportedRemedy() noexcept;

// Runs a call of the API and turns whatever it throws into a status.
template <class Function>
pag_status guarded(Function&& function) noexcept {
    try {
        std::forward<Function>(function)();
        return PAG_OK;
    } catch (const Problem& problem) {
        report(problem.what(), problem.remedy());
        return problem.status();
    } catch (const std::bad_alloc&) {
        report("There is not enough memory.", "Free some, or use smaller inputs.");
        return PAG_ENVIRONMENT;
    } catch (const std::exception& problem) {
        report(problem.what(), "This is a fault of pagdeploy: please report it.");
        return PAG_FAILED;
    } catch (...) {
        report("Something unknown was thrown.", "This is a fault of pagdeploy: please report it.");
        return PAG_FAILED;
    }
}

}  // namespace pagdeploy::runtime
