#include "perforated_conv/cpu/instruction_set.hpp"

namespace pagdeploy::cpu {

const std::vector<const InstructionSet*>& instructionSets() {
    static const std::vector<const InstructionSet*> found = [] {
        std::vector<const InstructionSet*> sets;
#if defined(__x86_64__)
        // The compiler's check also asks whether the system saves the wide registers.
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f")) {
            sets.push_back(&kAvx512);
        }
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
            sets.push_back(&kAvx2);
        }
#endif
        sets.push_back(&kPortable);
        return sets;
    }();
    return found;
}

}  // namespace pagdeploy::cpu
