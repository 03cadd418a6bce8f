# Kernels compiled once for each instruction set, from the same sources in lib/kernels/isa/.
#
# Each set has a namespace of its own (HONE_ISA) and its own flags; kernels/isa/function.h chooses among them. The files use no
# standard containers or algorithms: an inline function of the standard library compiled here would be merged by the linker
# with the copy of the rest of the program, and a portable path would then run AVX code.
file(GLOB isa_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/isa/*.cpp ${CMAKE_CURRENT_LIST_DIR}/isa/*/*.cpp
     ${CMAKE_CURRENT_LIST_DIR}/isa/*/*/*.cpp)
# Reductions are vectorized where a loop says so (omp simd reduction); reassociation in general would undo the error compensation of
# the exponential.
set(isa_common -fno-math-errno -fno-trapping-math -ffp-contract=fast -fopenmp-simd)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND isa_common -Wno-maybe-uninitialized)  # GCC 12's own AVX-512 headers raise it (its bug 105593)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # A loop that it does not vectorize stays a loop, and not every product asks every element for what it says of itself.
  list(APPEND isa_common -Wno-pass-failed -Wno-unused-const-variable)
endif()
if(HONE_SANITIZE OR HONE_SANITIZE_THREADS)
  # With the sanitizers -O3 takes five times as long to compile, for checks that are as good at -O1.
  list(PREPEND isa_common -O1)
  target_compile_options(hone_kernels PRIVATE -O1)
else()
  list(PREPEND isa_common -O3)
endif()

# Sets lowest first: each has the name of a level in base/cpu.h.
function(hone_isa name)
  add_library(hone_isa_${name} OBJECT ${isa_sources})
  set_target_properties(hone_isa_${name} PROPERTIES HONE_EVERY_CHECK ON)
  target_link_libraries(hone_isa_${name} PRIVATE hone_options OpenMP::OpenMP_CXX)
  target_compile_definitions(hone_isa_${name} PRIVATE HONE_ISA=${name} HONE_ISA_${name}=1)
  target_compile_options(hone_isa_${name} PRIVATE ${isa_common} ${ARGN})
  target_link_libraries(hone_kernels PRIVATE $<BUILD_INTERFACE:hone_isa_${name}> OpenMP::OpenMP_CXX)
  target_sources(hone_kernels PRIVATE $<TARGET_OBJECTS:hone_isa_${name}>)
  set(kernel_sets "${kernel_sets} HONE_SET(${name})" PARENT_SCOPE)
endfunction()

hone_isa(portable)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64" AND NOT HONE_SANITIZE_THREADS)
  hone_isa(neon)
  hone_isa(neon_dot -march=armv8.2-a+dotprod)  # Cortex-A55, A75, Neoverse N1 and newer
  hone_isa(neon_bf16 -march=armv8.2-a+dotprod+bf16+i8mm)  # Armv8.6: Cortex-A510, Neoverse V1, N2 and newer
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT HONE_SANITIZE_THREADS)
  set(avx512_flags -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512vbmi -mavx512vbmi2 -mavx512bitalg -mfma -mf16c -mbmi -mbmi2
      -mpopcnt -mprefer-vector-width=512)
  # With the sanitizers a set takes a minute to test and more to compile: only those that this machine runs, and avx512_bf16 is all of
  # avx512 and more.
  # (No variable may have the name of a set: if() would look into it.)
  set(runs avx512 avx512_bf16)
  if(HONE_SANITIZE)
    file(STRINGS /proc/cpuinfo cpu LIMIT_COUNT 1 REGEX "^flags")
    if(cpu MATCHES "avx512_bf16")
      list(REMOVE_ITEM runs avx512)
    elseif(cpu MATCHES "avx512_bitalg")
      list(REMOVE_ITEM runs avx512_bf16)
    else()
      list(REMOVE_ITEM runs avx512 avx512_bf16)
    endif()
  endif()
  hone_isa(avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2 -mpopcnt)
  if(avx512 IN_LIST runs)  # Ice Lake, Zen 4 and newer
    hone_isa(avx512 ${avx512_flags})
  endif()
  if(avx512_bf16 IN_LIST runs)  # the same with bf16 dot products: Zen 4, Sapphire Rapids (whose tiles isa/tiles/ names as
                                 # assembly, which wants no flag) and newer
    hone_isa(avx512_bf16 ${avx512_flags} -mavx512bf16)
  endif()
endif()
target_compile_definitions(hone_kernels PRIVATE "HONE_KERNEL_SETS=${kernel_sets}")

if(HONE_ONEDNN AND HONE_DNNL_INCLUDE AND HONE_DNNL_LIBRARY)
  target_include_directories(hone_kernels PRIVATE ${HONE_DNNL_INCLUDE})
  target_link_libraries(hone_kernels PRIVATE ${HONE_DNNL_LIBRARY})
  target_compile_definitions(hone_kernels PRIVATE HONE_HAS_ONEDNN=1)
endif()
