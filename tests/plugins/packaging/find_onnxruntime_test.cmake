# Holds FindOnnxRuntime to what it finds in made-up installations. Run with -P: no compiler needed.
set(failures 0)
unset(ENV{ONNXRUNTIME_ROOT})  # where the build found its own
unset(ENV{OnnxRuntime_ROOT})

# What find_package says of an installation, whose header is in that folder and has that line.
function(expect folder line expected)
  file(REMOVE_RECURSE ${FOLDER})
  file(WRITE ${FOLDER}/root/${folder}/onnxruntime_c_api.h "#pragma once\n${line}\n")
  file(WRITE ${FOLDER}/case.cmake "
    set(CMAKE_MODULE_PATH ${MODULES})
    set(CMAKE_FIND_USE_CMAKE_SYSTEM_PATH FALSE)
    set(ONNXRUNTIME_ROOT ${FOLDER}/root)
    function(add_library)  # a script has no targets
    endfunction()
    function(set_target_properties)
    endfunction()
    find_package(OnnxRuntime ${ARGN})
    message(\"found \${OnnxRuntime_FOUND} \${OnnxRuntime_API_VERSION}\")")
  execute_process(COMMAND ${CMAKE_COMMAND} -P ${FOLDER}/case.cmake
    OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT output MATCHES "${expected}")
    message("${folder}, ${line} (${ARGN}): '${expected}' is not in:\n${output}")
    math(EXPR failures "${failures} + 1")
    set(failures ${failures} PARENT_SCOPE)
  endif()
endfunction()

set(line "#define ORT_API_VERSION 21")
expect(include "${line}" "found TRUE 21" 1.18)
expect(include/onnxruntime "${line}" "found TRUE 21" 1.18)
expect(include/onnxruntime/core/session "${line}" "found TRUE 21" 1.18)
expect(include "#define ORT_API_VERSION 17" "found FALSE 17" 1.18)
expect(include "#define ORT_API_VERSION 17" "required is at least \"1.18\"" 1.18)
expect(include "no version here" "found FALSE" 1.18)
expect(elsewhere "${line}" "found FALSE" 1.18)

if(failures)
  message(FATAL_ERROR "${failures} failed")
endif()
