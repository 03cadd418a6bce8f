# Compiles for arm64 on a Debian of another processor, which has packages of both (arm64.sh). ctest runs the tests through qemu, as the
# processor that QEMU_CPU names, and a build the tools that write their own man pages.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(PKG_CONFIG_EXECUTABLE aarch64-linux-gnu-pkg-config CACHE FILEPATH "")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
set(CMAKE_CXX_FLAGS_INIT "-Wno-psabi")  # notes of GCC on what changed between its versions
