#!/usr/bin/env bash
# How OpenMP's threads wait, and how many there are, is read from the environment when GNU's libgomp is loaded. A program that
# wants to say it for itself, before main, cannot. In a constructor of its own it is too late: the library's ran before. An entry
# of .preinit_array runs before all libraries' constructors, and setenv() there returns 0; but in a program that is linked
# dynamically the C library then points `environ` at the kernel's block again, so that libgomp, and getenv() in main, see nothing
# of it. Linked statically the same entry works. What such an entry writes into the kernel's block itself, in the place of
# another variable, is seen by both, until the program puts that back (lib/cli/brief_spin.cpp); where there is no variable to
# be replaced, what is left is to start the program once more.
#
# Seen with Debian 12's libc6 2.36-9+deb12u14 and libgomp1 12.2.0-14+deb12u1, x86-64: threads of a program that sets
# OMP_NUM_THREADS=3 in a process whose environment says 2
#   constructor: setenv 0, getenv in main 3, threads 2
#   .preinit_array: setenv 0, getenv in main 2, threads 2
#   .preinit_array, into the block: setenv -1, getenv in main 3, threads 3
#   .preinit_array, static: setenv 0, getenv in main 3, threads 3
#
# Unpacks both libraries in a temporary folder; needs a C compiler with the static libraries of both. Status 0 while this holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for package in libc6=2.36-9+deb12u14 libgomp1=12.2.0-14+deb12u1; do
  apt-get download -q "$package" >/dev/null 2>&1 || { echo "$package is not in this machine's archive" >&2; exit 2; }
done
for package in *.deb; do dpkg-deb -x "$package" .; done
cat >early.c <<'C'
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int status = -1;
static void early(void) { status = setenv("OMP_NUM_THREADS", "3", 1); }
#if defined(BLOCK)
static char setting[] = "OMP_NUM_THREADS=3";
static void replace(int count, char** arguments, char** block) {
  for (; *block; ++block)
    if (!strncmp(*block, "OMP_NUM_THREADS=", 16)) *block = setting;
}
__attribute__((section(".preinit_array"), used)) static void (*const entry)(int, char**, char**) = replace;
#elif defined(PREINIT)
__attribute__((section(".preinit_array"), used)) static void (*const entry)(void) = early;
#else
__attribute__((constructor)) static void run(void) { early(); }
#endif

int main(void) {
  printf("setenv %d, getenv in main %s, threads %d\n", status, getenv("OMP_NUM_THREADS"), omp_get_max_threads());
  return 0;
}
C
cc -O1 -fopenmp early.c -o constructor
cc -O1 -fopenmp -DPREINIT early.c -o preinit
cc -O1 -fopenmp -DBLOCK early.c -o block
cc -O1 -fopenmp -DPREINIT -static early.c -o static 2>/dev/null
libraries=$folder/lib/x86_64-linux-gnu:$folder/usr/lib/x86_64-linux-gnu
run() { OMP_NUM_THREADS=2 "$folder/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path "$libraries" "$@"; }
{
  echo "constructor: $(run ./constructor)"
  echo ".preinit_array: $(run ./preinit)"
  echo ".preinit_array, into the block: $(run ./block)"
  echo ".preinit_array, static: $(OMP_NUM_THREADS=2 ./static)"
} | tee seen
diff - seen <<'T'
constructor: setenv 0, getenv in main 3, threads 2
.preinit_array: setenv 0, getenv in main 2, threads 2
.preinit_array, into the block: setenv -1, getenv in main 3, threads 3
.preinit_array, static: setenv 0, getenv in main 3, threads 3
T
