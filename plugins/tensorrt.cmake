# The TensorRT plugin library: one file that TensorRT loads, and nothing that it needs beside it.
set(PAGDEPLOY_TENSORRT_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/common/log.cpp
  ${CMAKE_CURRENT_LIST_DIR}/library.cpp
  ${CMAKE_CURRENT_LIST_DIR}/pag_gate/plugin_core.cpp
  ${CMAKE_CURRENT_LIST_DIR}/pag_gate/plugin_v2.cpp
  ${CMAKE_CURRENT_LIST_DIR}/pag_gate/plugin_v3.cpp
  ${CMAKE_CURRENT_LIST_DIR}/pag_gate/rules.cpp
  ${CMAKE_CURRENT_LIST_DIR}/perforated_conv/plugin_core.cpp
  ${CMAKE_CURRENT_LIST_DIR}/perforated_conv/plugin_v2.cpp
  ${CMAKE_CURRENT_LIST_DIR}/perforated_conv/plugin_v3.cpp
  ${CMAKE_CURRENT_LIST_DIR}/perforated_conv/rules.cpp)

if(NOT TensorRT_FOUND OR NOT TARGET pagdeploy_kernels)
  if(TensorRT_FOUND AND PAGDEPLOY_TENSORRT STREQUAL ON)
    message(FATAL_ERROR "PAGDEPLOY_TENSORRT is ON, and the plugins need the CUDA kernels")
  elseif(TensorRT_FOUND)
    message(STATUS "skipped the TensorRT plugins: they need the CUDA kernels")
  endif()
  if(SKBUILD AND NOT TARGET pagdeploy_ort_ops)
    message(FATAL_ERROR "PAGDEPLOY_BUILD_PLUGINS asks for a wheel with native libraries: the "
      "TensorRT plugins need nvcc, and TensorRT's headers in TensorRT_ROOT; the onnxruntime ops "
      "need onnxruntime's headers in ONNXRUNTIME_ROOT")
  endif()
  return()
endif()

find_package(CUDAToolkit REQUIRED)

# One library for each major version of TensorRT: messages and V2 plugins do not travel.
add_library(pagdeploy_plugins SHARED ${PAGDEPLOY_TENSORRT_SOURCES})
add_library(pagdeploy::plugins ALIAS pagdeploy_plugins)
set_target_properties(pagdeploy_plugins PROPERTIES
  EXPORT_NAME plugins
  OUTPUT_NAME pagdeploy_plugins_trt${TensorRT_VERSION_MAJOR}
  CXX_VISIBILITY_PRESET hidden
  VISIBILITY_INLINES_HIDDEN ON)
target_compile_options(pagdeploy_plugins PRIVATE -Wall -Wextra -Werror)
# The kernels are inside and the CUDA runtime is static; libnvinfer is the host's.
target_link_libraries(pagdeploy_plugins PRIVATE
  $<BUILD_INTERFACE:pagdeploy_kernels>
  $<BUILD_INTERFACE:TensorRT::headers>
  $<BUILD_INTERFACE:CUDA::cudart_static>
  ${CMAKE_DL_LIBS})
target_include_directories(pagdeploy_plugins PRIVATE ${CMAKE_CURRENT_LIST_DIR})

# Exactly the functions that TensorRT looks up; undefined symbols are an error here, not at load.
set(_version_script ${PROJECT_SOURCE_DIR}/cmake/plugins.version)
target_link_options(pagdeploy_plugins PRIVATE
  -Wl,--version-script=${_version_script} -Wl,--no-undefined)
set_property(TARGET pagdeploy_plugins APPEND PROPERTY LINK_DEPENDS ${_version_script})

# For hosts that only dlopen: it has the library above, which must lie beside it, registered.
if(UNIX AND NOT APPLE AND TensorRT_VERSION VERSION_GREATER_EQUAL 8.6)
  add_library(pagdeploy_plugins_autoreg SHARED ${CMAKE_CURRENT_LIST_DIR}/autoreg/autoreg.cpp)
  set_target_properties(pagdeploy_plugins_autoreg PROPERTIES
    OUTPUT_NAME pagdeploy_plugins_autoreg_trt${TensorRT_VERSION_MAJOR}
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)
  # A number, because from 10.11 on NV_TENSORRT_MAJOR is the name of another macro.
  target_compile_definitions(pagdeploy_plugins_autoreg PRIVATE
    PAGDEPLOY_TENSORRT_MAJOR=${TensorRT_VERSION_MAJOR})
  target_compile_options(pagdeploy_plugins_autoreg PRIVATE -Wall -Wextra -Werror)
  target_include_directories(pagdeploy_plugins_autoreg SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(pagdeploy_plugins_autoreg PRIVATE
    $<BUILD_INTERFACE:TensorRT::headers> ${CMAKE_DL_LIBS})
  target_link_options(pagdeploy_plugins_autoreg PRIVATE -Wl,--no-undefined)
endif()
