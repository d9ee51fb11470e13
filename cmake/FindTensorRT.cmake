#[=======================================================================[
FindTensorRT
------------

Finds the headers of NVIDIA TensorRT 8.5 and later, and its libraries where they are asked for.

Components: ``headers`` (default), ``nvinfer``, ``nvinfer_lean``, ``nvinfer_plugin``,
``nvonnxparser``. Every requested one must be there for the package to be found.

Searched in this order: the variable or environment variable ``TensorRT_ROOT``, the environment
variable ``TRT_ROOT``, the system's folders; for libraries also the Python packages
``tensorrt_libs`` and ``tensorrt_lean_libs``, whose files have only versioned names.

Defines ``TensorRT_FOUND``, ``TensorRT_VERSION``, ``TensorRT_VERSION_MAJOR`` and so on,
``TensorRT_INCLUDE_DIR``, ``TensorRT_<component>_LIBRARY``, and an imported target
``TensorRT::<component>`` each. ``TensorRT::headers`` does not bring the CUDA headers, which
TensorRT's own include.
#]=======================================================================]

if(NOT TensorRT_FIND_COMPONENTS)
  set(TensorRT_FIND_COMPONENTS headers)
endif()

set(_TensorRT_hints ${TensorRT_ROOT} $ENV{TensorRT_ROOT} $ENV{TRT_ROOT})

find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h
  HINTS ${_TensorRT_hints}
  PATH_SUFFIXES include ${CMAKE_LIBRARY_ARCHITECTURE})
mark_as_advanced(TensorRT_INCLUDE_DIR)

# The number behind a define of NvInferVersion.h. From 10.11 on NV_TENSORRT_MAJOR names another
# define (TRT_MAJOR_ENTERPRISE), which has the number; TensorRT-RTX has names of its own.
function(_tensorrt_version_part name text result)
  set(wanted ${name})
  foreach(step RANGE 3)
    if(NOT text MATCHES "#define[ \t]+${wanted}[ \t]+([A-Za-z0-9_]+)")
      break()
    endif()
    set(wanted ${CMAKE_MATCH_1})
    if(wanted MATCHES "^[0-9]+$")
      set(${result} ${wanted} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${result} "" PARENT_SCOPE)
endfunction()

unset(TensorRT_VERSION)
set(_TensorRT_reason "")
if(TensorRT_INCLUDE_DIR AND EXISTS ${TensorRT_INCLUDE_DIR}/NvInferVersion.h)
  file(READ ${TensorRT_INCLUDE_DIR}/NvInferVersion.h _TensorRT_text)
  foreach(_part IN ITEMS MAJOR MINOR PATCH)
    _tensorrt_version_part(NV_TENSORRT_${_part} "${_TensorRT_text}" TensorRT_VERSION_${_part})
  endforeach()
  if(_TensorRT_text MATCHES "#define[ \t]+NV_TENSORRT_MAJOR[ \t]+TRT_MAJOR_RTX")
    # Its version 1 is not an old TensorRT: it is another product, which takes no plugins.
    set(_TensorRT_reason "${TensorRT_INCLUDE_DIR} holds TensorRT-RTX, not TensorRT")
  elseif(TensorRT_VERSION_MAJOR STREQUAL "" OR TensorRT_VERSION_MINOR STREQUAL "")
    set(_TensorRT_reason "${TensorRT_INCLUDE_DIR}/NvInferVersion.h names no version")
  else()
    set(TensorRT_VERSION
      ${TensorRT_VERSION_MAJOR}.${TensorRT_VERSION_MINOR}.${TensorRT_VERSION_PATCH})
    set(TensorRT_headers_FOUND TRUE)
  endif()
endif()

# Where pip puts TensorRT's libraries.
function(_tensorrt_python_folders result)
  set(folders "")
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_Interpreter_FOUND)
    set(script "from importlib.util import find_spec")
    string(APPEND script "\nfor name in ('tensorrt_libs', 'tensorrt_lean_libs'):")
    string(APPEND script "\n    spec = find_spec(name)")
    string(APPEND script "\n    print(';'.join(spec.submodule_search_locations) if spec else '')")
    execute_process(COMMAND ${Python3_EXECUTABLE} -c "${script}"
      OUTPUT_VARIABLE folders OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    string(REPLACE "\n" ";" folders "${folders}")
  endif()
  set(${result} ${folders} PARENT_SCOPE)
endfunction()

set(_TensorRT_required TensorRT_INCLUDE_DIR)
set(_TensorRT_libraries ${TensorRT_FIND_COMPONENTS})
list(REMOVE_ITEM _TensorRT_libraries headers)
if(_TensorRT_libraries)
  _tensorrt_python_folders(_TensorRT_python)
endif()
foreach(_component IN LISTS _TensorRT_libraries)
  set(_names ${_component})
  foreach(_major IN ITEMS ${TensorRT_VERSION_MAJOR} 11 10 8)
    list(APPEND _names lib${_component}.so.${_major} ${_component}_${_major})
  endforeach()
  find_library(TensorRT_${_component}_LIBRARY NAMES ${_names}
    HINTS ${_TensorRT_hints} ${_TensorRT_python}
    PATH_SUFFIXES lib lib64 ${CMAKE_LIBRARY_ARCHITECTURE})
  mark_as_advanced(TensorRT_${_component}_LIBRARY)
  list(APPEND _TensorRT_required TensorRT_${_component}_LIBRARY)
  if(TensorRT_${_component}_LIBRARY)
    set(TensorRT_${_component}_FOUND TRUE)
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRT
  REQUIRED_VARS ${_TensorRT_required} TensorRT_VERSION
  VERSION_VAR TensorRT_VERSION
  HANDLE_COMPONENTS
  REASON_FAILURE_MESSAGE "${_TensorRT_reason}")

if(TensorRT_FOUND AND NOT TARGET TensorRT::headers)
  # SYSTEM, as for every imported target: their warnings are not ours.
  add_library(TensorRT::headers INTERFACE IMPORTED)
  set_target_properties(TensorRT::headers PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${TensorRT_INCLUDE_DIR}")
endif()
foreach(_component IN LISTS _TensorRT_libraries)
  if(TensorRT_FOUND AND NOT TARGET TensorRT::${_component})
    add_library(TensorRT::${_component} UNKNOWN IMPORTED)
    set_target_properties(TensorRT::${_component} PROPERTIES
      IMPORTED_LOCATION "${TensorRT_${_component}_LIBRARY}"
      INTERFACE_LINK_LIBRARIES TensorRT::headers)
  endif()
endforeach()
