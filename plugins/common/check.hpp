// How plugin code refuses what it is given: an exception inside, one log line at the boundary.
#pragma once

#include <stdexcept>
#include <string>

namespace pagdeploy {

// What the caller asked for cannot be done; the text is a sentence for the user.
class Refusal : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

}  // namespace pagdeploy

// The sentence is an expression that makes a std::string; it is evaluated only on failure.
#define PAG_CHECK(condition, sentence)              \
    do {                                            \
        if (!(condition)) {                         \
            throw ::pagdeploy::Refusal((sentence)); \
        }                                           \
    } while (false)
