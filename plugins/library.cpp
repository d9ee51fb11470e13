// The library's exported functions. A TensorRT registry's loadLibrary() calls setLoggerFinder()
// and then getCreators(), or getPluginCreators() before TensorRT 10; nothing registers itself.
#include "common/creators.hpp"
#include "common/log.hpp"

#if defined(_WIN32)
#define PAG_EXPORT extern "C" __declspec(dllexport)
#else
#define PAG_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

using pagdeploy::Creator;

Creator* const* creatorList(std::int32_t& count) noexcept {
    return pagdeploy::guarded<Creator* const*>("library", "getCreators", nullptr, [&count] {
        static Creator* const creators[] = {
            pagdeploy::pagGateCreator(0),
            pagdeploy::perforatedConvCreator(0),
            pagdeploy::pagGateCreator(1),
            pagdeploy::perforatedConvCreator(1),
        };
        count = static_cast<std::int32_t>(sizeof creators / sizeof *creators);
        return creators;
    });
}

}  // namespace

#if PAG_TENSORRT_V3

PAG_EXPORT Creator* const* getCreators(std::int32_t& count) {
    count = 0;
    return creatorList(count);
}

#else

PAG_EXPORT Creator* const* getPluginCreators(std::int32_t& count) {
    count = 0;
    return creatorList(count);
}

#endif

#if PAG_TENSORRT_HAS_LOGGER_FINDER

PAG_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
    pagdeploy::keepLoggerFinder(finder);
}

#endif
