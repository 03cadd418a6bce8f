# What our own programs take HDF5 from: target hdf5_of_tools. What is installed for programs of others names hdf5::hdf5.
#
# Debian's shared library also reads files on S3, for which it loads curl and with it TLS, LDAP and Kerberos: 30 of the
# 66 libraries that a tool loaded. The static library beside it has what reads them in an object of its own, which nobody asks for.
option(HONE_STATIC_HDF5 "Take HDF5's static library for the tools, where there is one that needs nothing but compression" ON)
set(HONE_HDF5_IS_STATIC OFF)
set(hdf5_static)
foreach(library ${HDF5_C_LIBRARIES})
  if(library MATCHES "/libhdf5[^/]*\\.so$")
    string(REGEX REPLACE "\\.so$" ".a" library ${library})
    list(APPEND hdf5_static ${library})
    if(EXISTS ${library})
      set(HONE_HDF5_IS_STATIC ON)
    endif()
  elseif(NOT library MATCHES "/lib(curl|crypto|ssl)\\.")
    list(APPEND hdf5_static ${library})
  endif()
endforeach()
if(HONE_STATIC_HDF5 AND HONE_HDF5_IS_STATIC)
  include(CheckCSourceCompiles)
  set(CMAKE_REQUIRED_INCLUDES ${HDF5_INCLUDE_DIRS})
  set(CMAKE_REQUIRED_LIBRARIES ${hdf5_static})
  check_c_source_compiles("
#include <hdf5.h>
int main(void) { return H5Fopen(\"\", H5F_ACC_RDONLY, H5P_DEFAULT) < 0 || H5Dcreate2(0, \"\", 0, 0, 0, 0, 0) < 0; }" HONE_HDF5_LINKS_ALONE)
  unset(CMAKE_REQUIRED_INCLUDES)
  unset(CMAKE_REQUIRED_LIBRARIES)
endif()

add_library(hdf5_of_tools INTERFACE)
target_include_directories(hdf5_of_tools SYSTEM INTERFACE $<TARGET_PROPERTY:hdf5::hdf5,INTERFACE_INCLUDE_DIRECTORIES>)
target_compile_definitions(hdf5_of_tools INTERFACE $<TARGET_PROPERTY:hdf5::hdf5,INTERFACE_COMPILE_DEFINITIONS>)
if(HONE_STATIC_HDF5 AND HONE_HDF5_IS_STATIC AND HONE_HDF5_LINKS_ALONE)
  target_link_libraries(hdf5_of_tools INTERFACE ${hdf5_static})
else()
  set(HONE_HDF5_IS_STATIC OFF)
  target_link_libraries(hdf5_of_tools INTERFACE hdf5::hdf5)
endif()
set_property(GLOBAL PROPERTY hone_hdf5_is_static ${HONE_HDF5_IS_STATIC})
