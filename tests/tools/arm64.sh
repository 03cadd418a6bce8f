#!/usr/bin/env bash
# Hone for Arm, made on another processor: builds everything for arm64 with a cross compiler and runs the unit tests under qemu, as a
# processor with bf16 and 8-bit dot products (every instruction set is tested), one with those of 8 bits, and one with neither. It built
# everything, and tests of the kernels and of some other rooms passed; all tests of one run were not seen to their end
# yet. By hand, as root, on a Debian:
#
#   bash tests/tools/arm64.sh [--build FOLDER] [--jobs N] [-- OPTION…]
#
# --build FOLDER   where to build (default: build/arm64)
# --jobs N         compilers, and tests, at once (default: as many as there are processors)
# -- OPTION…       of ctest: -R '^kernels$', say
#
# Installs packages of arm64 beside those that are there. Of some, libhdf5-dev among them, a system has those of one architecture only:
# where that would remove any, nothing is installed. A system of its own is made by `debootstrap bookworm FOLDER` and `chroot FOLDER`.
# The tests in tests/cli are not run: they start tools, and tools each other.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
  echo "error: $*" >&2
  exit "${status:-1}"
}
usage() { status=2 fail "$1 (see the head of tests/tools/arm64.sh)"; }

build=build/arm64 jobs=$(nproc)
while [ $# -gt 0 ]; do
  case $1 in
    --build | --jobs)
      [ $# -ge 2 ] || usage "$1 needs a value"
      declare "${1#--}=$2"
      shift
      ;;
    --)
      shift
      break
      ;;
    *) usage "unknown option $1" ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage "--jobs takes a number"
[ "$(id -u)" -eq 0 ] || fail "packages are installed as root"
[ "$(dpkg --print-architecture)" != arm64 ] || fail "this is arm64: tests/run.sh builds and tests here"

export DEBIAN_FRONTEND=noninteractive
dpkg --add-architecture arm64
apt-get update -q >/dev/null
mapfile -t names < <(bash tools/install-packages.sh --list libraries)
packages=(g++-aarch64-linux-gnu qemu-user)
mapfile -t -O ${#packages[@]} packages < <(bash tools/install-packages.sh --list build)
for name in "${names[@]}"; do
  # Headers alone are one package for every architecture.
  if [ "$(apt-cache show --no-all-versions "$name" | sed -n 's/^Architecture: //p')" = all ]; then
    packages+=("$name")
  else
    packages+=("$name:arm64")
  fi
done
apt-get install -y -q --no-install-recommends --no-remove "${packages[@]}" >/dev/null ||
  fail "these packages cannot all stand on this system: try one of its own (see the head of tests/tools/arm64.sh)"

cmake -G Ninja -S . -B "$build" --toolchain tests/tools/arm64.cmake -DCMAKE_BUILD_TYPE=Release -DHONE_TESTS=ON -DHONE_UNITY=ON \
  -DHONE_WERROR=ON >/dev/null
cmake --build "$build" -j "$jobs"

failed=0 table=()
run_as() { # PROCESSOR CTEST-OPTION…
  local processor=$1 log=$build/tests.$1.log
  shift
  QEMU_CPU=$processor ctest --test-dir "$build" --output-on-failure --timeout 7200 -j "$jobs" "$@" | tee "$log" || failed=1
  table+=("$(printf '%-14s %s' "$processor" "$(grep -oE '[0-9]+% tests passed.*|No tests were found.*' "$log" | tail -n 1)")")
}
run_as max "$@"
# Which set is chosen, and that nothing below it has an instruction that the processor lacks.
run_as cortex-a76 -R '^(base|kernels)$' "$@"
run_as cortex-a53 -R '^(base|kernels)$' "$@"
printf '%s\n' "${table[@]}"
exit "$failed"
