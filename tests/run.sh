#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: the unit tests and the command-line tests on the real executables.
set -euo pipefail
cd "$(dirname "$0")/.."

bash tools/install-packages.sh

jobs=$(nproc)
cmake -G Ninja -B build -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build build -j "$jobs"

# One after the other: the tests use all cores themselves.
ctest --test-dir build --output-on-failure
