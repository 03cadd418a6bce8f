# The library for programs of others: #include <hone/model/store.h>, find_package(hone), target hone::hone.
#
# Within Hone a header is named by its room, "model/store.h"; installed, those names are below hone/, so that they collide
# with nobody's. Headers of a room's own (kernels/isa, HDF5's in io) and of the executables are not installed.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(hone_rooms GLOBAL PROPERTY hone_rooms)
list(REMOVE_ITEM hone_rooms cli)
add_library(hone INTERFACE)
foreach(room ${hone_rooms})
  target_link_libraries(hone INTERFACE hone_${room})
endforeach()

list(TRANSFORM hone_rooms PREPEND hone_ OUTPUT_VARIABLE hone_libraries)
install(TARGETS hone hone_options ${hone_libraries} EXPORT hone ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
set(hone_package ${CMAKE_INSTALL_LIBDIR}/cmake/hone)
set(hone_with_mpi OFF)
if(TARGET MPI::MPI_C)
  set(hone_with_mpi ON)
endif()
install(EXPORT hone NAMESPACE hone:: FILE hone-targets.cmake DESTINATION ${hone_package} COMPONENT development)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/hone-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/hone-config.cmake
                              INSTALL_DESTINATION ${hone_package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/hone-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/hone-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/hone-config-version.cmake
        DESTINATION ${hone_package} COMPONENT development)

# For everybody else: pkg-config. The rooms in the order in which a linker resolves them, the highest first. The folder is
# told from where the file lies, so that it holds for any --prefix.
set(hone_pc_libraries "")
foreach(library ${hone_libraries})
  string(PREPEND hone_pc_libraries "-l${library} ")
endforeach()
if(HONE_ONEDNN AND HONE_DNNL_INCLUDE AND HONE_DNNL_LIBRARY)
  string(APPEND hone_pc_libraries "-ldnnl ")
endif()
if(hone_with_mpi)
  foreach(library ${MPI_C_LIBRARIES})
    string(APPEND hone_pc_libraries "${library} ")
  endforeach()
endif()
file(RELATIVE_PATH hone_pc_up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_CURRENT_LIST_DIR}/hone.pc.in ${CMAKE_CURRENT_BINARY_DIR}/hone.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/hone.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)

install(CODE "set(hone_rooms ${hone_rooms})
set(hone_source \"${CMAKE_CURRENT_LIST_DIR}\")
set(hone_include \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_INCLUDEDIR}/hone\")
include(\"${CMAKE_CURRENT_LIST_DIR}/install_headers.cmake\")"
        COMPONENT development)
