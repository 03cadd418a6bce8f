# At installation: copies the headers of hone_rooms from hone_source to hone_include, with hone/ before the names of rooms in
# what they include.
string(REPLACE ";" "|" rooms "${hone_rooms}")
foreach(room ${hone_rooms})
  file(GLOB_RECURSE headers RELATIVE ${hone_source} ${hone_source}/${room}/*.h)
  list(FILTER headers EXCLUDE REGEX "^kernels/isa/")
  foreach(header ${headers})
    file(READ ${hone_source}/${header} text)
    if(header STREQUAL "c/hone.h" OR text MATCHES "#include <hdf5.h>")
      continue()
    endif()
    string(REGEX REPLACE "#include \"((${rooms})/)" "#include \"hone/\\1" text "${text}")
    set(was "")
    if(EXISTS ${hone_include}/${header})
      file(READ ${hone_include}/${header} was)
    endif()
    if(NOT was STREQUAL text)  # an unchanged header is not newer
      file(WRITE ${hone_include}/${header} "${text}")
    endif()
  endforeach()
endforeach()
file(COPY_FILE ${hone_source}/c/hone.h ${hone_include}/hone.h ONLY_IF_DIFFERENT)  # what programs in C include
message(STATUS "Headers: ${hone_include}")
