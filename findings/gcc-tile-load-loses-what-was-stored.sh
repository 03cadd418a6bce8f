#!/usr/bin/env bash
# GCC 12's _tile_loadd() (Intel AMX) is an asm statement that is told the address and not that memory is read there. A buffer that
# is filled, loaded as a tile, filled anew and loaded as another tile, which is how edges of a matrix are padded, so looks to the
# optimizer as if nobody had read what it held first: from -O1 on the first fill is deleted, and the first tile is whatever lay on
# the stack. No warning, and with -O0 the program is right. _tile_stored() does say "memory", so that a lone load before a store
# hides it. Clang's intrinsic is a builtin that is known to read, and keeps both.
#
# Seen with Debian 12's gcc-12 12.2.0-14+deb12u1, x86-64, of fills with threes and then with fives:
#   -O0: threes kept, fives kept
#   -O2: threes deleted, fives kept
#
# Unpacks the compiler in a temporary folder and reads what it compiles: no processor with AMX is needed. Status 0 while this holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for package in cpp-12 libgcc-12-dev; do
  apt-get download -q "$package=12.2.0-14+deb12u1" >/dev/null 2>&1 ||
    { echo "$package 12.2.0-14+deb12u1 is not in this machine's archive" >&2; exit 2; }
done
apt-get download -q libisl23 libmpc3 libmpfr6 libgmp10 libzstd1 zlib1g >/dev/null 2>&1 || true  # what it runs with
for package in *.deb; do dpkg-deb -x "$package" .; done
cat >pair.c <<'C'
#define _IMMINTRIN_H_INCLUDED /* what <immintrin.h> includes of it, without the C library's headers */
#include <amxtileintrin.h>
#include <amxint8intrin.h>

void product(signed char* out) {
  signed char edge[16 * 64];
  __builtin_memset(edge, 3, sizeof edge);
  _tile_loadd(0, edge, 64);
  __builtin_memset(edge, 5, sizeof edge);
  _tile_loadd(1, edge, 64);
  _tile_dpbssd(2, 0, 1);
  _tile_stored(2, out, 64);
}
C
compiler=usr/lib/gcc/x86_64-linux-gnu/12/cc1
export LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu:$folder/lib/x86_64-linux-gnu
# Fills of a known size: a call of memset with the number, or a store of it eight times over.
kept() { grep -qE "[$]($1|$2)[^0-9]" "$3" && echo kept || echo deleted; }
for level in 0 2; do
  "$compiler" -quiet "-O$level" -mamx-tile -mamx-int8 -isystem usr/lib/gcc/x86_64-linux-gnu/12/include pair.c -o "pair$level.s"
  echo "-O$level: threes $(kept 3 217020518514230019 "pair$level.s"), fives $(kept 5 361700864190383365 "pair$level.s")"
done | tee seen
diff - seen <<'T'
-O0: threes kept, fives kept
-O2: threes deleted, fives kept
T
