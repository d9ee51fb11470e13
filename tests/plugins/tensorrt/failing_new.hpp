// Makes the n-th allocation from now on fail, to see what plugins do without memory.
#pragma once

namespace pagdeploy::testing {

// Negative: never. Counts every operator new of the process.
void failAllocation(int number);

}  // namespace pagdeploy::testing
