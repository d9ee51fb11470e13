# The CPU kernels, without onnxruntime: what its op library, and the tests, are made of.
set(_cpu_folder ${CMAKE_CURRENT_LIST_DIR})

# pagdeploy_add_cpu_kernels(<target>): a static library of them.
function(pagdeploy_add_cpu_kernels target)
  set(folder ${_cpu_folder}/perforated_conv/cpu)
  set(sources instruction_set_portable.cpp quantized_set_portable.cpp)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    list(APPEND sources instruction_set_avx2.cpp instruction_set_avx512.cpp
      quantized_set_avx2.cpp quantized_set_vnni.cpp)
  endif()
  list(TRANSFORM sources PREPEND ${folder}/)
  add_library(${target} STATIC
    ${sources}
    ${folder}/activation.cpp
    ${folder}/conv_pair.cpp
    ${folder}/convolution.cpp
    ${folder}/inactive.cpp
    ${folder}/instruction_set.cpp
    ${folder}/layout.cpp
    ${folder}/means.cpp
    ${folder}/nchw.cpp
    ${folder}/packed_weights.cpp
    ${folder}/quantized_convolution.cpp
    ${folder}/quantized_set.cpp
    ${folder}/support.cpp
    ${_cpu_folder}/pag_gate/cpu.cpp
    ${_cpu_folder}/pag_gate/rules.cpp
    ${_cpu_folder}/perforated_conv/rules.cpp)
  target_include_directories(${target} PUBLIC ${_cpu_folder})
  target_compile_features(${target} PUBLIC cxx_std_17)
  # Optimised in debug builds too: they are the tests', which multiply a lot.
  target_compile_options(${target} PRIVATE -Wall -Wextra -Werror -O3)
  set_target_properties(${target} PROPERTIES
    POSITION_INDEPENDENT_CODE ON
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)
  # A product and its sum as one instruction, whatever the compiler's own default is.
  set(fused -ffp-contract=fast)
  set_source_files_properties(${folder}/instruction_set_portable.cpp
    PROPERTIES COMPILE_OPTIONS "${fused}")
  set_source_files_properties(${folder}/instruction_set_avx2.cpp
    PROPERTIES COMPILE_OPTIONS "${fused};-mavx2;-mfma")
  set_source_files_properties(${folder}/instruction_set_avx512.cpp
    PROPERTIES COMPILE_OPTIONS "${fused};-mavx512f;-mfma")
  # Not of quantized tensors: each is rounded as often as onnxruntime rounds it.
  set(apart -ffp-contract=off)
  set_source_files_properties(
    ${folder}/quantized_convolution.cpp ${folder}/quantized_set_portable.cpp
    PROPERTIES COMPILE_OPTIONS "${apart}")
  set_source_files_properties(${folder}/quantized_set_avx2.cpp
    PROPERTIES COMPILE_OPTIONS "${apart};-mavx2")
  set_source_files_properties(${folder}/quantized_set_vnni.cpp
    PROPERTIES COMPILE_OPTIONS "${apart};-mavx512f;-mavx512vnni")
endfunction()
