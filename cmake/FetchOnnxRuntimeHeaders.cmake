# Downloads the official release archive of ONNX Runtime (MIT), of which only the headers are used,
# and points ONNXRUNTIME_ROOT at it. Only with -DPAGDEPLOY_FETCH_ONNXRUNTIME_HEADERS=ON.
include(FetchContent)
set(PAGDEPLOY_ONNXRUNTIME_VERSION 1.21.0 CACHE STRING
  "Release of ONNX Runtime to take headers from: 1.18 and later")
FetchContent_Declare(onnxruntime_headers
  URL https://github.com/microsoft/onnxruntime/releases/download/v${PAGDEPLOY_ONNXRUNTIME_VERSION}/onnxruntime-linux-x64-${PAGDEPLOY_ONNXRUNTIME_VERSION}.tgz
  # A folder without a CMakeLists.txt: nothing of the archive is built.
  SOURCE_SUBDIR include)
FetchContent_MakeAvailable(onnxruntime_headers)
set(ONNXRUNTIME_ROOT ${onnxruntime_headers_SOURCE_DIR})
