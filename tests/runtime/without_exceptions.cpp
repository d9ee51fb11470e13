// pagdeploy.hpp with -fno-exceptions: everything can be handled by ok() and error().
#include "running.hpp"

#ifndef PAGDEPLOY_NO_EXCEPTIONS
#error "compile it with -fno-exceptions"
#endif

using namespace pagdeploy;

int main() {
    const auto none = Bundle::open("/nowhere");
    if (none.ok() || none.error().status != PAG_USAGE) {
        return 1;
    }
    const auto bundle = Bundle::open(pathOf("sizes"));
    const auto engine = Engine::create(bundle.value(), withOnnxRuntime());
    if (!engine) {
        std::fprintf(stderr, "%s\n", engine.error().text().c_str());
        return 1;
    }
    return Context::create(engine.value()).ok() ? 0 : 1;
}
