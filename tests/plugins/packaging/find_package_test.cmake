# Installs the build, then configures, builds and runs the consumer against it.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result
    OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGV}\nended with ${result}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# Outside the source tree: only what is installed may be found.
set(folder ${BUILD}/find_package_test)
file(REMOVE_RECURSE ${folder})
file(MAKE_DIRECTORY ${folder})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${folder}/installed)
file(COPY ${CONSUMER}/ DESTINATION ${folder}/source)
run(${CMAKE_COMMAND} -S ${folder}/source -B ${folder}/build -G ${GENERATOR}
  -DCMAKE_CXX_COMPILER=${CXX_COMPILER} -DCMAKE_PREFIX_PATH=${folder}/installed)
run(${CMAKE_COMMAND} --build ${folder}/build)
run(${folder}/build/consumer)
file(REMOVE_RECURSE ${folder})

if(NOT output MATCHES "branch 1")
  message(FATAL_ERROR "the consumer printed: ${output}")
endif()
if(WITH_PLUGINS AND NOT output MATCHES "plugins found")
  message(FATAL_ERROR "the plugin library was built, and the consumer printed: ${output}")
endif()
if(WITH_RUNTIME AND NOT output MATCHES "runtime [0-9.]+ found")
  message(FATAL_ERROR "the C++ runtime was built, and the consumer printed: ${output}")
endif()
if(WITH_ORT_OPS AND NOT output MATCHES "ort_ops found")
  message(FATAL_ERROR "the onnxruntime op library was built, and the consumer printed: ${output}")
endif()
