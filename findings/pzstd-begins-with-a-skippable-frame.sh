#!/usr/bin/env bash
# pzstd 1.5.4, of the package zstd: what it writes begins with a skippable frame (magic number 50 2A 4D 18), not with that of zstd
# (28 B5 2F FD), and so does every part of it. A reader that knows zstd files by the first four bytes takes such a file for something
# else, though `zstd -d` reads it; file(1) does not call it by the name of zstd's own frames either. RFC 8878 allows it: a file may
# begin with any of sixteen skippable magic numbers.
#
# Seen on Debian 12 (zstd 1.5.4+dfsg2-5):
#   zstd: 28b52ffd   pzstd: 502a4d18   both decompress to the same text
#
# Unpacks the package in a temporary folder. Status 0 while this holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q zstd=1.5.4+dfsg2-5 >/dev/null 2>&1 || { echo "zstd 1.5.4+dfsg2-5 is not in this machine's archive" >&2; exit 2; }
dpkg-deb -x zstd_*.deb .
seq 1 100000 >text
usr/bin/zstd -q -c text >plain.zst
usr/bin/pzstd -q -p 2 -c text >parallel.zst
magic() { head -c 4 "$1" | od -An -tx1 | tr -d ' \n'; }
echo "zstd: $(magic plain.zst)   pzstd: $(magic parallel.zst)"
usr/bin/zstd -q -d -c parallel.zst | cmp - text
[ "$(magic plain.zst)" = 28b52ffd ] && [ "$(magic parallel.zst)" = 502a4d18 ]
