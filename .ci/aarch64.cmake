# Cross-compiles for 64-bit ARM with Debian's toolchain and the unpacked Debian in LLAMAQ_SYSROOT (see aarch64.sh).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# Debian keeps pyconfig.h under the architecture's name: it must be found, but after the compiler's own headers.
set(CMAKE_CXX_FLAGS_INIT "-idirafter $ENV{LLAMAQ_SYSROOT}/usr/include")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
