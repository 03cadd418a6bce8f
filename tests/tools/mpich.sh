#!/usr/bin/env bash
# Builds the tools with MPICH, beside whatever MPI is the system's, and runs the tests of ranks with them. By hand:
#
#   bash tests/tools/mpich.sh [BUILD]         (default: build-mpich)
#
# Needs mpich and libmpich-dev. Nothing of the system is changed: CMake is told the compiler, and the tests find the
# launcher by a folder that stands first in PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=${1:-build-mpich}
for command in mpicc.mpich mpirun.mpich; do
  command -v "$command" >/dev/null || { echo "error: no $command here: apt-get install mpich libmpich-dev" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DHONE_UNITY=ON -DMPI_C_COMPILER=mpicc.mpich >"$work/cmake.log" ||
  { tail -5 "$work/cmake.log" >&2; exit 1; }
nice ninja -C "$build" -j "${JOBS:-2}" bin/{train,eval,generate,bench,inspect,quantize}
libraries=$(ldd "$build/bin/train")
case $libraries in
  *libmpi.so*) echo "error: $build/bin/train has Open MPI" >&2; exit 1 ;;
  *libmpich.so*) ;;
  *) echo "error: $build/bin/train has no MPICH" >&2; exit 1 ;;
esac

bin=$(realpath "$build/bin")
python=$(sed -n 's/^HONE_PYTHON:FILEPATH=//p' "$build/CMakeCache.txt")
printf '#!/bin/sh\nexec mpirun.mpich "$@"\n' >"$work/mpirun"  # no link: it looks for its helpers beside itself
chmod +x "$work/mpirun"
cd tests/cli
PATH=$work:$PATH HONE_BIN=$bin "$python" -m unittest -v test_parallel test_parallel_parts
