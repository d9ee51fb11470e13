#include "perforated_conv/cpu/quantized_set.hpp"

namespace pagdeploy::cpu {

const std::vector<const QuantizedSet*>& quantizedSets() {
    static const std::vector<const QuantizedSet*> found = [] {
        std::vector<const QuantizedSet*> sets;
#if defined(__x86_64__)
        // The compiler's check also asks whether the system saves the wide registers.
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni")) {
            sets.push_back(&kQuantizedVnni);
        }
        if (__builtin_cpu_supports("avx2")) {
            sets.push_back(&kQuantizedAvx2);
        }
#endif
        sets.push_back(&kQuantizedPortable);
        return sets;
    }();
    return found;
}

}  // namespace pagdeploy::cpu
