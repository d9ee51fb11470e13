#[=======================================================================[
pagdeploy_add_bundle(<target> <bundle>)

Puts a bundle beside the program that opens it: copies the folder <bundle> to the program's own
folder whenever a file of it changes, and defines PAGDEPLOY_BUNDLE there as the copy's name.
#]=======================================================================]
function(pagdeploy_add_bundle target bundle)
  cmake_path(ABSOLUTE_PATH bundle BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} NORMALIZE)
  if(NOT EXISTS ${bundle}/manifest.json)
    message(FATAL_ERROR "${bundle} is not a bundle: it has no manifest.json. "
      "Give the folder that 'pagdeploy build' wrote.")
  endif()
  cmake_path(GET bundle FILENAME name)
  file(GLOB_RECURSE files CONFIGURE_DEPENDS ${bundle}/*)
  set(stamp ${CMAKE_CURRENT_BINARY_DIR}/${target}_${name}.stamp)
  # A file that the bundle no longer has would make the copy one that was changed.
  add_custom_command(OUTPUT ${stamp}
    COMMAND ${CMAKE_COMMAND} -E rm -rf $<TARGET_FILE_DIR:${target}>/${name}
    COMMAND ${CMAKE_COMMAND} -E copy_directory ${bundle} $<TARGET_FILE_DIR:${target}>/${name}
    COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
    DEPENDS ${files} VERBATIM)
  add_custom_target(${target}_${name} ALL DEPENDS ${stamp})
  add_dependencies(${target} ${target}_${name})
  target_compile_definitions(${target} PRIVATE PAGDEPLOY_BUNDLE="${name}")
endfunction()
