# The onnxruntime op library: one file that onnxruntime loads, and nothing that it needs beside it.
if(NOT OnnxRuntime_FOUND)
  return()
endif()

set(_folder ${CMAKE_CURRENT_LIST_DIR}/onnxruntime)
pagdeploy_add_cpu_kernels(pagdeploy_cpu_kernels)

add_library(pagdeploy_ort_ops SHARED
  ${_folder}/api.cpp
  ${_folder}/conv.cpp
  ${_folder}/conv_checks.cpp
  ${_folder}/layout.cpp
  ${_folder}/library.cpp
  ${_folder}/pixel_lists.cpp
  ${_folder}/quantized_conv.cpp)
add_library(pagdeploy::ort_ops ALIAS pagdeploy_ort_ops)
set_target_properties(pagdeploy_ort_ops PROPERTIES
  EXPORT_NAME ort_ops
  OUTPUT_NAME pagdeploy_ort
  CXX_VISIBILITY_PRESET hidden
  VISIBILITY_INLINES_HIDDEN ON)
target_compile_options(pagdeploy_ort_ops PRIVATE -Wall -Wextra -Werror)
target_link_libraries(pagdeploy_ort_ops PRIVATE
  $<BUILD_INTERFACE:pagdeploy_cpu_kernels>
  $<BUILD_INTERFACE:OnnxRuntime::headers>)

# Exactly the function that onnxruntime looks up; undefined symbols are an error here, not at load.
set(_version_script ${PROJECT_SOURCE_DIR}/cmake/ort_ops.version)
target_link_options(pagdeploy_ort_ops PRIVATE
  -Wl,--version-script=${_version_script} -Wl,--no-undefined)
set_property(TARGET pagdeploy_ort_ops APPEND PROPERTY LINK_DEPENDS ${_version_script})
