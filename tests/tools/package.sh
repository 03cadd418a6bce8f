#!/usr/bin/env bash
# Makes the Debian packages, asks lintian about them, and installs and runs them in a bare Debian. By hand, as root:
#
#   bash tests/tools/package.sh [BUILD]         (default: build, configured with -DCMAKE_INSTALL_PREFIX=/usr)
#
# Needs lintian and debootstrap, and the archive that apt reads: the bare system is made of it.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=$(realpath "${1:-build}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for command in lintian debootstrap dpkg-shlibdeps; do
  command -v "$command" >/dev/null || { echo "error: no $command here: apt-get install lintian debootstrap dpkg-dev" >&2; exit 1; }
done

(cd "$build" && cpack -G DEB -B "$work" >/dev/null)
ls -l "$work"/*.deb
# Errors fail. The licence is not ours to state.
lintian --fail-on error --tag-display-limit 0 "$work"/*.deb

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
debootstrap --variant=minbase "$suite" "$work/root" >"$work/debootstrap.log" || { tail -5 "$work/debootstrap.log" >&2; exit 1; }
cp "$work"/hone_*.deb "$work/root/tmp/"
chroot "$work/root" sh -ec '
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends /tmp/hone_*.deb >/dev/null
  cd /tmp
  i=0; while [ $i -lt 300 ]; do echo "the river follows the stone bridge, line $i"; i=$((i+1)); done >text
  hone train --data text --steps 3 --layers 1 --dim 32 --heads 2 --context 32 --output m.h5 --quiet
  hone quantize m.h5 --output q.h5 --quiet
  hone-eval m.h5 q.h5 --data text --no-speed --quiet
  test -f /usr/share/man/man1/hone-eval.1.gz
  apt-get remove -y -q hone >/dev/null
  ! command -v hone
'
echo "installed, ran and removed in a bare $suite"
