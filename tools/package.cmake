# Debian packages by CPack: `hone`, the tools, and `libhone-dev`, headers and static libraries. tests/tools/package.sh tries them.
set(CPACK_PACKAGE_NAME hone)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "takes transformers from dense to sparse on a CPU")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL tools development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME hone)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SHLIBDEPS ON)
set(CPACK_COMPONENT_TOOLS_DESCRIPTION
    "Trains, prunes, quantizes, scores, measures and serves transformers.
 Each step is a command that reads and writes one HDF5 file. Weights that
 were pruned and quantized are stored and executed packed.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libhone-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
# The packages of tools/install-packages.sh that the libraries are linked with, or that their headers include.
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
    "libeigen3-dev, libhdf5-dev, libfmt-dev, libdnnl-dev, nlohmann-json3-dev, libxxhash-dev, libpcre2-dev, libutf8proc-dev, libssl-dev, zlib1g-dev, libzstd-dev, libpng-dev, libturbojpeg0-dev, libsndfile1-dev, libsamplerate0-dev, libopenmpi-dev")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION
    "Headers and static libraries of Hone.
 A model in a program of your own: hone/hone.h for C, every part for C++,
 found by pkg-config and CMake.")

# A pool of packages wants the address of who made them.
set(HONE_CONTACT "The authors of Hone <hone@example.org>" CACHE STRING "Name <address> of who packages it")
set(CPACK_PACKAGE_CONTACT "${HONE_CONTACT}")

# What Debian wants beside the files: a copyright, a changelog, and texts that are compressed. Whose code is in the programs wants its
# own notice beside them.
get_property(hone_hdf5_is_static GLOBAL PROPERTY hone_hdf5_is_static)
if(hone_hdf5_is_static)
  set(CPACK_HONE_NOTICE_HDF5 /usr/share/doc/libhdf5-dev/copyright)
endif()
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/package/finish.cmake)
set(CPACK_HONE_TEXTS ${CMAKE_CURRENT_LIST_DIR}/package)
set(CPACK_HONE_DATE ${hone_version_date})
include(CPack)
