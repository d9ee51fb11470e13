# The options, and what they find on this machine. Included once, by the top CMakeLists.txt.
#
# AUTO takes what is there and says in one line what is not; ON makes its absence an error.
set(PAGDEPLOY_CUDA AUTO CACHE STRING "Compile the CUDA kernels: AUTO, ON or OFF")
set(PAGDEPLOY_TENSORRT AUTO CACHE STRING "Build the TensorRT plugin library: AUTO, ON or OFF")
set(PAGDEPLOY_ONNXRUNTIME AUTO CACHE STRING "Build the onnxruntime op library: AUTO, ON or OFF")
set_property(CACHE PAGDEPLOY_CUDA PAGDEPLOY_TENSORRT PAGDEPLOY_ONNXRUNTIME
  PROPERTY STRINGS AUTO ON OFF)
option(PAGDEPLOY_FETCH_TENSORRT_HEADERS
  "Download the open-source headers of TensorRT where none are installed" OFF)
option(PAGDEPLOY_FETCH_ONNXRUNTIME_HEADERS
  "Download the official archive of ONNX Runtime where no headers are installed" OFF)
option(PAGDEPLOY_BUILD_TESTS "Build the native tests" OFF)
option(PAGDEPLOY_SANITIZE "Build the host tests and the runtime with AddressSanitizer and UBSan" OFF)
option(PAGDEPLOY_SANITIZE_THREADS "Build the host tests and the runtime with ThreadSanitizer" OFF)
option(PAGDEPLOY_FUZZ "Build the fuzzer of the bundle reader; needs clang" OFF)
if(PAGDEPLOY_SANITIZE AND PAGDEPLOY_SANITIZE_THREADS)
  message(FATAL_ERROR "PAGDEPLOY_SANITIZE and PAGDEPLOY_SANITIZE_THREADS exclude each other")
endif()
set(PAGDEPLOY_SANITIZERS "")
if(PAGDEPLOY_SANITIZE)
  set(PAGDEPLOY_SANITIZERS -fsanitize=address,undefined)
elseif(PAGDEPLOY_SANITIZE_THREADS)
  set(PAGDEPLOY_SANITIZERS -fsanitize=thread)
endif()

# Every GPU that is supported, and PTX: of 80 for chips in between without a binary of their own,
# of 120 for later ones. A build for tests is content with one.
if(PAGDEPLOY_BUILD_TESTS)
  set(_architectures 90)
else()
  set(_architectures 75-real 80 86-real 87-real 89-real 90-real 100-real 120)
endif()
set(PAGDEPLOY_CUDA_ARCHITECTURES ${_architectures}
  CACHE STRING "GPU architectures to compile for")

foreach(option IN ITEMS PAGDEPLOY_CUDA PAGDEPLOY_TENSORRT PAGDEPLOY_ONNXRUNTIME)
  if(NOT ${option} MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "${option} is '${${option}}'; it must be AUTO, ON or OFF")
  endif()
endforeach()

# Defines PAGDEPLOY_HAS_CUDA, and with it the language CUDA.
macro(pagdeploy_enable_cuda)
  set(PAGDEPLOY_HAS_CUDA FALSE)
  if(NOT PAGDEPLOY_CUDA STREQUAL OFF)
    # Before the language is enabled: nvcc 13 refuses the architecture that CMake would try.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES ${PAGDEPLOY_CUDA_ARCHITECTURES})
    endif()
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      enable_language(CUDA)
      set(PAGDEPLOY_HAS_CUDA TRUE)
    elseif(PAGDEPLOY_CUDA STREQUAL ON)
      message(FATAL_ERROR "PAGDEPLOY_CUDA is ON and there is no nvcc: install the CUDA toolkit, "
        "or name its compiler by -DCMAKE_CUDA_COMPILER=")
    else()
      message(STATUS "skipped the CUDA kernels: no nvcc found")
    endif()
  endif()
endmacro()

# Defines TensorRT_FOUND, and with it TensorRT::headers and TensorRT_VERSION.
macro(pagdeploy_find_tensorrt)
  if(PAGDEPLOY_TENSORRT STREQUAL OFF)
    set(TensorRT_FOUND FALSE)
  else()
    find_package(TensorRT 8.5 QUIET COMPONENTS headers)
    if(NOT TensorRT_FOUND AND PAGDEPLOY_FETCH_TENSORRT_HEADERS)
      include(FetchTensorRTHeaders)
      find_package(TensorRT 8.5 REQUIRED COMPONENTS headers)
    endif()
    if(TensorRT_FOUND)
      message(STATUS "TensorRT headers ${TensorRT_VERSION}: ${TensorRT_INCLUDE_DIR}")
    elseif(PAGDEPLOY_TENSORRT STREQUAL ON)
      message(FATAL_ERROR "PAGDEPLOY_TENSORRT is ON and no TensorRT headers (8.5 or later) were "
        "found: set TensorRT_ROOT to an installation, or -DPAGDEPLOY_FETCH_TENSORRT_HEADERS=ON")
    else()
      message(STATUS "skipped the TensorRT plugins: no TensorRT headers found; set TensorRT_ROOT, "
        "or -DPAGDEPLOY_FETCH_TENSORRT_HEADERS=ON to download them")
    endif()
  endif()
endmacro()

# Defines OnnxRuntime_FOUND, and with it OnnxRuntime::headers.
macro(pagdeploy_find_onnxruntime)
  if(PAGDEPLOY_ONNXRUNTIME STREQUAL OFF)
    set(OnnxRuntime_FOUND FALSE)
  else()
    find_package(OnnxRuntime 1.18 QUIET)
    if(NOT OnnxRuntime_FOUND AND PAGDEPLOY_FETCH_ONNXRUNTIME_HEADERS)
      include(FetchOnnxRuntimeHeaders)
      find_package(OnnxRuntime 1.18 REQUIRED)
    endif()
    if(OnnxRuntime_FOUND)
      message(STATUS "onnxruntime headers ${OnnxRuntime_VERSION}: ${OnnxRuntime_INCLUDE_DIR}")
    elseif(PAGDEPLOY_ONNXRUNTIME STREQUAL ON)
      message(FATAL_ERROR "PAGDEPLOY_ONNXRUNTIME is ON and no onnxruntime headers (1.18 or later) "
        "were found: set ONNXRUNTIME_ROOT, or -DPAGDEPLOY_FETCH_ONNXRUNTIME_HEADERS=ON")
    else()
      message(STATUS "skipped the onnxruntime ops: no onnxruntime headers found; install "
        "libonnxruntime-dev, set ONNXRUNTIME_ROOT, or "
        "-DPAGDEPLOY_FETCH_ONNXRUNTIME_HEADERS=ON to download them")
    endif()
  endif()
endmacro()
