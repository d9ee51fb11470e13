# Holds FindTensorRT to what it finds in made-up installations. Run with -P: no compiler needed.
set(failures 0)

# Writes FOLDER/<name>/include with an NvInferVersion.h of the given lines.
function(make_installation name)
  file(WRITE ${FOLDER}/${name}/include/NvInferRuntime.h "")
  list(JOIN ARGN "\n" text)
  file(WRITE ${FOLDER}/${name}/include/NvInferVersion.h "${text}\n")
endfunction()

# What find_package says with TensorRT_ROOT at that installation, or with other arguments.
function(expect name expected)
  file(WRITE ${FOLDER}/case.cmake "
    set(CMAKE_MODULE_PATH ${MODULES})
    set(CMAKE_FIND_USE_CMAKE_SYSTEM_PATH FALSE)
    set(TensorRT_ROOT ${FOLDER}/${name})
    cmake_policy(SET CMP0074 NEW)
    function(add_library)  # a script has no targets
    endfunction()
    function(set_target_properties)
    endfunction()
    find_package(TensorRT ${ARGN})
    message(\"found \${TensorRT_FOUND} \${TensorRT_VERSION} \${TensorRT_VERSION_MAJOR}\")")
  execute_process(COMMAND ${CMAKE_COMMAND} -P ${FOLDER}/case.cmake
    OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT output MATCHES "${expected}")
    message("${name} (${ARGN}): '${expected}' is not in:\n${output}")
    math(EXPR failures "${failures} + 1")
    set(failures ${failures} PARENT_SCOPE)
  endif()
endfunction()

file(REMOVE_RECURSE ${FOLDER})
make_installation(plain
  "#define NV_TENSORRT_MAJOR 8 //!< major" "#define NV_TENSORRT_MINOR 6" "#define NV_TENSORRT_PATCH 1")
make_installation(aliased
  "#define TRT_MAJOR_ENTERPRISE 10" "#define TRT_MINOR_ENTERPRISE 16" "#define TRT_PATCH_ENTERPRISE 1"
  "#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE //!< major"
  "#define NV_TENSORRT_MINOR TRT_MINOR_ENTERPRISE"
  "#define NV_TENSORRT_PATCH TRT_PATCH_ENTERPRISE")
make_installation(rtx
  "#define TRT_MAJOR_RTX 1" "#define TRT_MINOR_RTX 7" "#define TRT_PATCH_RTX 1"
  "#define NV_TENSORRT_MAJOR TRT_MAJOR_RTX" "#define NV_TENSORRT_MINOR TRT_MINOR_RTX"
  "#define NV_TENSORRT_PATCH TRT_PATCH_RTX")
make_installation(strange "#define SOMETHING 1")
file(MAKE_DIRECTORY ${FOLDER}/empty)

expect(plain "found TRUE 8.6.1 8" 8.5 QUIET)
expect(plain "found FALSE" 10 QUIET)
expect(aliased "found TRUE 10.16.1 10" QUIET COMPONENTS headers)
# A requested library that is not there means that the package is not there.
expect(aliased "found FALSE" QUIET COMPONENTS headers nvonnxparser)
expect(rtx "found FALSE" QUIET)
expect(rtx "holds TensorRT-RTX, not TensorRT")
expect(strange "names no version")
expect(empty "found FALSE" QUIET)
expect(empty "Could NOT find TensorRT" REQUIRED)

if(failures GREATER 0)
  message(FATAL_ERROR "${failures} cases failed")
endif()
