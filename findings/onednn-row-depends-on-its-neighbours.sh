#!/usr/bin/env bash
# oneDNN 2.6.3, f32 matmul limited to AVX2: row 0 of A times B has other bits when A has 1 to 3 rows than when it has 4 to 6, and so
# have the last 1 to 3 of 7 to 9 rows. Tiles of six rows leave a rest, whose sums are taken in another order. The same process,
# primitive attributes (fpmath strict), thread count and numbers: only how many rows lie beside it differs. A language model's token
# that is decoded alone then has other logits than in a batch, and drafts that are verified several at a time are not what would have
# been written one by one. With AVX-512 kernels the same sizes agree.
#
# Seen on Debian 12 (libdnnl-dev 2.6.3-1, one thread): "rows 1 2 3 differ, rows 4 5 6 agree"
#
# Unpacks the packages in a temporary folder; needs a C++ compiler. Status 0 while this holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for package in libdnnl2 libdnnl-dev; do
  apt-get download -q "$package=2.6.3-1" >/dev/null 2>&1 || { echo "$package 2.6.3-1 is not in this machine's archive" >&2; exit 2; }
done
for package in *.deb; do dpkg-deb -x "$package" .; done
cat >rows.cpp <<'CPP'
#include <cstdio>
#include <cstring>
#include <vector>
#include "oneapi/dnnl/dnnl.hpp"
using namespace dnnl;

int main() {
  const engine cpu(engine::kind::cpu, 0);
  stream queue(cpu);
  const memory::dim n = 96, k = 256;
  std::vector<float> a(6 * k), b(n * k);
  unsigned state = 1;
  for (auto* numbers : {&a, &b})
    for (float& x : *numbers) x = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) / (1 << 24) - 0.5f;
  std::vector<std::vector<float>> first(7);  // row 0 of the product of so many rows
  for (memory::dim m = 1; m <= 6; ++m) {
    std::vector<float> c(m * n);
    const memory::desc ad({m, k}, memory::data_type::f32, memory::format_tag::ab);
    const memory::desc bd({k, n}, memory::data_type::f32, memory::format_tag::ba);
    const memory::desc cd({m, n}, memory::data_type::f32, memory::format_tag::ab);
    primitive_attr attributes;
    attributes.set_fpmath_mode(fpmath_mode::strict);
    const matmul product(matmul::primitive_desc(matmul::desc(ad, bd, cd), attributes, cpu));
    product.execute(queue, {{DNNL_ARG_SRC, memory(ad, cpu, a.data())},
                            {DNNL_ARG_WEIGHTS, memory(bd, cpu, b.data())},
                            {DNNL_ARG_DST, memory(cd, cpu, c.data())}});
    queue.wait();
    first[m].assign(c.begin(), c.begin() + n);
  }
  const auto agrees = [&](int m) { return std::memcmp(first[m].data(), first[6].data(), n * 4) == 0; };
  std::printf("rows");
  for (int m = 1; m <= 6; ++m)
    if (!agrees(m)) std::printf(" %d", m);
  std::printf(" differ, rows");
  for (int m = 1; m <= 6; ++m)
    if (agrees(m)) std::printf(" %d", m);
  std::printf(" agree\n");
}
CPP
libraries=$(dirname "$(find usr -name 'libdnnl.so.2*' | head -1)")
g++ -std=c++17 -Iusr/include rows.cpp -o rows "$libraries"/libdnnl.so.2 -Wl,-rpath,"$folder/$libraries" -fopenmp
OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 ./rows | tee answer
grep -qx 'rows 1 2 3 differ, rows 4 5 6 agree' answer
