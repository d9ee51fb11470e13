# The sources of the kernels, for nvcc and for the emulator of tests/plugins/kernels.
set(PAGDEPLOY_KERNEL_CUDA_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/pag_gate/kernel.cu
  ${CMAKE_CURRENT_LIST_DIR}/perforated_conv/fused_tail.cu
  ${CMAKE_CURRENT_LIST_DIR}/perforated_conv/kernel.cu
  ${CMAKE_CURRENT_LIST_DIR}/perforated_conv/kernel_wgmma.cu
  ${CMAKE_CURRENT_LIST_DIR}/perforated_conv/launch.cu
  ${CMAKE_CURRENT_LIST_DIR}/perforated_conv/support.cu)
set(PAGDEPLOY_KERNEL_SOURCES
  ${PAGDEPLOY_KERNEL_CUDA_SOURCES}
  ${CMAKE_CURRENT_LIST_DIR}/perforated_conv/cost.cpp)
