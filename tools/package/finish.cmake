# CPack runs this in the folders that become packages, before it makes them.
file(GLOB packages ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*)
find_program(gzip gzip REQUIRED)
foreach(folder ${packages})
  get_filename_component(component ${folder} NAME)
  string(TOUPPER ${component} upper)
  set(name ${CPACK_DEBIAN_${upper}_PACKAGE_NAME})
  if(NOT name)
    continue()
  endif()
  set(texts ${folder}/usr/share/doc/${name})
  file(COPY ${CPACK_HONE_TEXTS}/copyright DESTINATION ${texts})
  if(component STREQUAL "tools" AND CPACK_HONE_NOTICE_HDF5)
    if(NOT EXISTS ${CPACK_HONE_NOTICE_HDF5})
      message(FATAL_ERROR "no ${CPACK_HONE_NOTICE_HDF5}, the notice of a library that is linked in: configure with -DHONE_STATIC_HDF5=OFF")
    endif()
    file(READ ${CPACK_HONE_NOTICE_HDF5} notice)
    file(WRITE ${texts}/copyright.hdf5 "${notice}")
  endif()
  execute_process(COMMAND date -R -u -d ${CPACK_HONE_DATE} OUTPUT_VARIABLE date OUTPUT_STRIP_TRAILING_WHITESPACE)
  file(WRITE ${texts}/changelog "hone (${CPACK_PACKAGE_VERSION}) unstable; urgency=low

  * This version.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}
")
  # Programs are installed under other names than they are built with, which is why CMake did not do this.
  file(GLOB programs ${folder}/usr/bin/*)
  foreach(program ${programs})
    file(RPATH_REMOVE FILE ${program})
    execute_process(COMMAND strip --strip-unneeded ${program} COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
  file(GLOB pages ${folder}/usr/share/man/*/*)
  execute_process(COMMAND ${gzip} -9nf ${pages} ${texts}/changelog COMMAND_ERROR_IS_FATAL ANY)
  file(GLOB_RECURSE files ${texts}/*)
  file(CHMOD ${files} PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
endforeach()
