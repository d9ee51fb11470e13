// Prints the default attributes of PerforatedConv as JSON, in the order of the visitor.
#include "common/op_attributes.hpp"

#include <cstdio>
#include <vector>

namespace {

struct PrintJson {
    bool first = true;

    void key(const char* name) {
        std::printf("%s\"%s\": ", first ? "" : ", ", name);
        first = false;
    }
    void operator()(const char* name, std::int32_t value) {
        key(name);
        std::printf("%d", static_cast<int>(value));
    }
    void operator()(const char* name, float value) {
        key(name);
        std::printf("%.9g", static_cast<double>(value));
    }
    void operator()(const char* name, const std::vector<std::int32_t>& values) {
        key(name);
        std::printf("[");
        for (std::size_t i = 0; i < values.size(); ++i)
            std::printf("%s%d", i ? ", " : "", static_cast<int>(values[i]));
        std::printf("]");
    }
};

}  // namespace

int main() {
    const pagdeploy::PerforatedConvAttributes defaults;
    std::printf("{");
    pagdeploy::visitPerforatedConv(defaults, PrintJson{});
    std::printf("}\n");
}
