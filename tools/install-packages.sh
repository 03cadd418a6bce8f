#!/usr/bin/env bash
# Installs what Hone needs to build and to run its tests on Debian or Ubuntu: the one list of packages. Quick when all is there.
#
#   bash tools/install-packages.sh [--list build|libraries|rest]     (--list: prints the names of a part, and installs nothing)
set -euo pipefail

build=(g++ cmake ninja-build pkg-config)
libraries=(
  libcli11-dev libeigen3-dev libhdf5-dev libfmt-dev libdnnl-dev nlohmann-json3-dev libxxhash-dev libpcre2-dev libutf8proc-dev
  libssl-dev
  # configuration files
  libtomlplusplus-dev
  # compressed texts
  zlib1g-dev libzstd-dev
  # images and sounds
  libpng-dev libturbojpeg0-dev libsndfile1-dev libsamplerate0-dev
  # the server
  libcpp-httplib-dev
  # several processes
  libopenmpi-dev
  # tests
  doctest-dev
)
rest=(
  # several processes
  openmpi-bin
  # tests
  python3 python3-h5py
  # the default corpus
  bible-kjv
)

case "$*" in
  '') ;;
  '--list build') printf '%s\n' "${build[@]}" && exit ;;
  '--list libraries') printf '%s\n' "${libraries[@]}" && exit ;;
  '--list rest') printf '%s\n' "${rest[@]}" && exit ;;
  *) echo "error: $0 takes nothing, or --list build|libraries|rest" >&2 && exit 2 ;;
esac
packages=("${build[@]}" "${libraries[@]}" "${rest[@]}")

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "error: these packages are missing and installing them needs root: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q >&2
"${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
