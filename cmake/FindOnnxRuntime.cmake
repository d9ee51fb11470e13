#[=======================================================================[
FindOnnxRuntime
---------------

Finds the C header of ONNX Runtime, which is all that a library of custom operators needs: the
runtime that loads it hands it every function.

Searched in this order: the variable ``ONNXRUNTIME_ROOT``, the environment variable of that name,
the system's folders (Debian and Ubuntu: ``libonnxruntime-dev``). Python packages bring no headers.

Defines ``OnnxRuntime_FOUND``, ``OnnxRuntime_API_VERSION`` (21 for ONNX Runtime 1.21),
``OnnxRuntime_INCLUDE_DIR`` and the imported target ``OnnxRuntime::headers``. The version that is
asked for is 1.<API version>.
#]=======================================================================]

find_path(OnnxRuntime_INCLUDE_DIR onnxruntime_c_api.h
  HINTS ${ONNXRUNTIME_ROOT} $ENV{ONNXRUNTIME_ROOT}
  PATH_SUFFIXES include include/onnxruntime onnxruntime include/onnxruntime/core/session
                onnxruntime/core/session)
mark_as_advanced(OnnxRuntime_INCLUDE_DIR)

unset(OnnxRuntime_API_VERSION)
unset(OnnxRuntime_VERSION)
if(OnnxRuntime_INCLUDE_DIR)
  file(STRINGS ${OnnxRuntime_INCLUDE_DIR}/onnxruntime_c_api.h _OnnxRuntime_line
    REGEX "^#define ORT_API_VERSION [0-9]+")
  if(_OnnxRuntime_line MATCHES "([0-9]+)$")
    set(OnnxRuntime_API_VERSION ${CMAKE_MATCH_1})
    set(OnnxRuntime_VERSION 1.${OnnxRuntime_API_VERSION})
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntime
  REQUIRED_VARS OnnxRuntime_INCLUDE_DIR OnnxRuntime_API_VERSION
  VERSION_VAR OnnxRuntime_VERSION)

if(OnnxRuntime_FOUND AND NOT TARGET OnnxRuntime::headers)
  add_library(OnnxRuntime::headers INTERFACE IMPORTED)
  set_target_properties(OnnxRuntime::headers PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${OnnxRuntime_INCLUDE_DIR}")
endif()
