#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: the unit tests of what computes as users get them, all unit tests
# under the address and undefined-behaviour sanitizers, what threads share under that of threads, and the command-line tests
# on the real executables.
#
#   bash tests/run.sh [--without-sanitizers]
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  '' | --without-sanitizers) ;;
  *) echo "error: unknown option $1" >&2 && exit 2 ;;
esac
bash tools/install-packages.sh

jobs=$(nproc)
if [ "${1:-}" != --without-sanitizers ]; then
  # The sanitized builds first: the last one, which runs all tests, looks for them when it is configured.
  cmake -G Ninja -B build/sanitized -DCMAKE_BUILD_TYPE=Sanitized -DHONE_SANITIZE=ON -DHONE_TOOLS=OFF -DHONE_UNITY=ON -DHONE_WERROR=ON >/dev/null
  cmake --build build/sanitized -j "$jobs"
  cmake -G Ninja -B build/threads -DCMAKE_BUILD_TYPE=Threads -DHONE_SANITIZE_THREADS=ON -DHONE_TOOLS=OFF -DHONE_UNITY=ON -DHONE_WERROR=ON >/dev/null
  cmake --build build/threads -j "$jobs" --target test_threads
fi
cmake -G Ninja -B build -DCMAKE_BUILD_TYPE=Release -DHONE_TESTS=ON -DHONE_UNITY=ON -DHONE_WERROR=ON >/dev/null
cmake --build build -j "$jobs"

# Side by side: most tests leave a core idle most of the time. Those that look at the clock run alone (tests/CMakeLists.txt).
# One that hangs fails, and the others are still seen.
ctest --test-dir build --output-on-failure --timeout 900 -j "$jobs"
