// Opens, loads, runs and releases a bundle over and over, right and wrong: runtime_cycles COUNT
//
// Exits with 1 if the resident memory grows by more than 2 MB in the second half, where nothing is
// left to be cached.
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "running.hpp"

namespace {

using namespace pagdeploy;

double residentMegabytes() {
    long pages = 0;
    long resident = 0;
    std::ifstream("/proc/self/statm") >> pages >> resident;
    return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

void cycle() {
    const Bundle bundle = Bundle::open(pathOf("sizes")).value();
    const Engine engine = Engine::create(bundle, withOnnxRuntime()).value();
    Context context = Context::create(engine).value();
    const std::vector<float> ones(8, 1.0f);
    context.bindInput("x", ones.data(), {2, 4}).value();
    context.bindInput("y", ones.data(), {2, 4}).value();
    const bool isEarly = context.run().ok();  // the scale is missing
    context.setScalar("scale", 2).value();
    context.run().value();
    const bool isRight = context.output("sum").value().as<float>()[7] == 4.0f;
    if (isEarly || !isRight || Bundle::open("/nowhere").ok()) {
        std::fprintf(stderr, "a cycle went wrong\n");
        std::exit(1);
    }
}

}  // namespace

int main(int count, char** arguments) {
    const int cycles = count > 1 ? std::atoi(arguments[1]) : 500;
    double atHalf = 0;
    for (int i = 0; i <= cycles; ++i) {
        if (i == cycles / 2) {
            atHalf = residentMegabytes();
        }
        if (i % (cycles < 10 ? 1 : cycles / 10) == 0) {
            std::printf("%6d cycles: %.1f MB\n", i, residentMegabytes());
        }
        cycle();
    }
    const double grown = residentMegabytes() - atHalf;
    std::printf("grown by %.2f MB in the second half\n", grown);
    return grown > 2 ? 1 : 0;
}
