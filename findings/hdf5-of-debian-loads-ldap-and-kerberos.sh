#!/usr/bin/env bash
# A program that links Debian's libhdf5 to write a file of its own loads the libraries of a directory service before main: LDAP,
# SASL, Kerberos, SSH, HTTP/2, TLS. The package is built with the driver that reads files on S3, which needs libcurl, and the
# shared library names libcurl among what it needs, whether that driver is ever asked for or not. The static library of the same
# package has the driver in objects of their own, which a program that does not name it leaves out: it wants libsz and libz
# alone. So a tool that lives for some milliseconds, and reads one local file, starts twice as quickly linked statically.
#
# Seen on Debian 12 (libhdf5-103-1 1.10.8+repack1-1), x86-64: what a program has loaded which wrote one dataset into a file in
# memory
#   shared: 36 libraries: ldap yes, krb5 yes, ssh2 yes
#   static: 6 libraries: ldap no, krb5 no, ssh2 no
#
# Unpacks the package and all that it depends on in a temporary folder; needs a C compiler. Status 0 while this holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
version=1.10.8+repack1-1
mkdir -p debs/partial root
: >status
apt-get install -y -q --download-only --no-install-recommends -o Dir::State::status="$folder/status" \
  -o Dir::Cache::archives="$folder/debs" "libhdf5-dev=$version" >/dev/null 2>&1 ||
  { echo "libhdf5-dev $version is not in this machine's archive" >&2; exit 2; }
for package in debs/*.deb; do dpkg-deb -x "$package" root; done
cat >one.c <<'C'
#include <hdf5.h>
#include <stdio.h>
#include <string.h>

static int has(const char* text) {
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[4096];
  int found = 0;
  while (fgets(line, sizeof line, maps)) found |= strstr(line, text) != NULL;
  fclose(maps);
  return found;
}

int main(void) {
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_fapl_core(access, 1 << 16, 0);
  const hid_t file = H5Fcreate("in memory", H5F_ACC_TRUNC, H5P_DEFAULT, access);
  const hsize_t three = 3;
  const int values[3] = {1, 2, 3};
  const hid_t space = H5Screate_simple(1, &three, NULL);
  const hid_t set = H5Dcreate2(file, "set", H5T_NATIVE_INT, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  if (H5Dwrite(set, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) return 1;
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[4096], names[16384] = "";
  int libraries = 0;
  while (fgets(line, sizeof line, maps)) {
    char* name = strrchr(line, '/');
    if (!name || !strstr(name, ".so") || strstr(names, name)) continue;
    strcat(names, name);
    ++libraries;
  }
  fclose(maps);
  printf("%d libraries: ldap %s, krb5 %s, ssh2 %s\n", libraries, has("/libldap") ? "yes" : "no",
         has("/libkrb5.so") ? "yes" : "no", has("/libssh2") ? "yes" : "no");
  return 0;
}
C
usr=root/usr/lib/x86_64-linux-gnu
cc -O1 -Iroot/usr/include/hdf5/serial one.c -o shared -L"$usr/hdf5/serial" -L"$usr" -lhdf5 -Wl,--allow-shlib-undefined
cc -O1 -Iroot/usr/include/hdf5/serial one.c -o static "$usr/hdf5/serial/libhdf5.a" -L"$usr" -l:libsz.so.2 -l:libz.so.1 -lm -ldl \
  -Wl,--allow-shlib-undefined
libraries=$folder/$usr:$folder/root/lib/x86_64-linux-gnu
run() { "$folder/root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path "$libraries" "$@"; }
shared=$(run ./shared) static=$(run ./static)
echo "shared: $shared"
echo "static: $static"
[[ $shared == *"ldap yes, krb5 yes, ssh2 yes" && $static == *"ldap no, krb5 no, ssh2 no" ]] &&
  [ "${shared%% *}" -gt $((4 * ${static%% *})) ]
