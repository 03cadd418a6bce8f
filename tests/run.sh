#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: the unit tests as users get them, the unit tests under the address and
# undefined-behaviour sanitizers, one model in several threads under that of threads, and the command-line tests on the real executables.
set -euo pipefail
cd "$(dirname "$0")/.."

bash tools/install-packages.sh

jobs=$(nproc)
# The sanitized builds first: the last one, which runs all tests, looks for them when it is configured.
cmake -G Ninja -B build/sanitized -DCMAKE_BUILD_TYPE=Sanitized -DHONE_SANITIZE=ON -DHONE_TOOLS=OFF -DHONE_WERROR=ON >/dev/null
cmake --build build/sanitized -j "$jobs"
cmake -G Ninja -B build/threads -DCMAKE_BUILD_TYPE=Threads -DHONE_SANITIZE_THREADS=ON -DHONE_TOOLS=OFF -DHONE_WERROR=ON >/dev/null
cmake --build build/threads -j "$jobs" --target test_threads
cmake -G Ninja -B build -DCMAKE_BUILD_TYPE=Release -DHONE_TESTS=ON -DHONE_WERROR=ON >/dev/null
cmake --build build -j "$jobs"

# One after the other: the tests use all cores themselves.
ctest --test-dir build --output-on-failure
