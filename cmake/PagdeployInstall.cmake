# What is installed, and how another project finds it: find_package(pagdeploy CONFIG).
include(CMakePackageConfigHelpers)

set(_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/pagdeploy)
set(_header_dir ${CMAKE_INSTALL_INCLUDEDIR}/pagdeploy)

install(TARGETS pagdeploy_ops EXPORT pagdeploy)
install(FILES ${PROJECT_SOURCE_DIR}/plugins/ops.inc DESTINATION ${_header_dir})
install(FILES ${PROJECT_SOURCE_DIR}/plugins/common/op_attributes.hpp
  DESTINATION ${_header_dir}/common)

# A consumer loads a library by path: $<TARGET_FILE:pagdeploy::plugins>, ort_ops likewise.
if(TARGET pagdeploy_plugins)
  install(TARGETS pagdeploy_plugins EXPORT pagdeploy
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET pagdeploy_plugins_autoreg)
  install(TARGETS pagdeploy_plugins_autoreg LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(TARGET pagdeploy_ort_ops)
  install(TARGETS pagdeploy_ort_ops EXPORT pagdeploy LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

if(TARGET pagdeploy_runtime)
  install(TARGETS pagdeploy_runtime EXPORT pagdeploy LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  # Beside the runtime, which looks for them there.
  install(TARGETS ${PAGDEPLOY_BACKENDS} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/engines/runtime/include/pagdeploy/
    DESTINATION ${_header_dir})
  configure_file(${PROJECT_SOURCE_DIR}/cmake/pagdeploy.pc.in pagdeploy.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/pagdeploy.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  install(FILES ${PROJECT_SOURCE_DIR}/cmake/PagdeployAddBundle.cmake DESTINATION ${_config_dir})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples/cpp/
    DESTINATION ${CMAKE_INSTALL_DATADIR}/pagdeploy/examples)
endif()

install(EXPORT pagdeploy
  NAMESPACE pagdeploy:: FILE pagdeployTargets.cmake DESTINATION ${_config_dir})
configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/pagdeployConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/pagdeployConfig.cmake
  INSTALL_DESTINATION ${_config_dir})
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/pagdeployConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/pagdeployConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/pagdeployConfigVersion.cmake
  DESTINATION ${_config_dir})
