# Downloads NVIDIA's open-source part of TensorRT, of which only the headers (Apache-2.0) are used,
# and points TensorRT_ROOT at them. Only with -DPAGDEPLOY_FETCH_TENSORRT_HEADERS=ON.
include(FetchContent)
set(PAGDEPLOY_TENSORRT_TAG v10.16 CACHE STRING
  "Tag of NVIDIA/TensorRT to take headers from: v10.0.0 and later (those of 8.x are proprietary)")
FetchContent_Declare(tensorrt_headers
  GIT_REPOSITORY https://github.com/NVIDIA/TensorRT.git
  GIT_TAG ${PAGDEPLOY_TENSORRT_TAG}
  GIT_SHALLOW TRUE
  GIT_SUBMODULES ""
  # A folder without a CMakeLists.txt: nothing of that project is built.
  SOURCE_SUBDIR include)
FetchContent_MakeAvailable(tensorrt_headers)
set(TensorRT_ROOT ${tensorrt_headers_SOURCE_DIR})
