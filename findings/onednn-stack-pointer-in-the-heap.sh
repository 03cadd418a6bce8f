#!/usr/bin/env bash
# oneDNN 2.6.3, f32 matmul: for nearly all of its time the generated AVX2 kernel has its stack pointer in memory from the heap, not in
# the thread's stack. A signal handler without SA_ONSTACK runs there: its frame, with the saved
# registers some kilobytes, is written over what lies below, and a program that only sets a flag at SIGINT dies later of a corrupted
# heap. Profilers and garbage collectors that look at the stack of an interrupted thread see none. sigaltstack() with SA_ONSTACK is
# safe, as here.
#
# Seen on Debian 12 (libdnnl-dev 2.6.3-1, one thread): of 1000 signals 53 in the thread's stack, 951 elsewhere
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
cat >samples.cpp <<'CPP'
#include <pthread.h>
#include <sys/time.h>
#include <ucontext.h>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <vector>
#include "oneapi/dnnl/dnnl.hpp"
using namespace dnnl;

static uintptr_t lowest, highest;
static std::atomic<long> inside{0}, outside{0};

static void sample(int, siginfo_t*, void* context) {
  const auto stack = static_cast<uintptr_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RSP]);
  (stack >= lowest && stack < highest ? inside : outside)++;
}

int main() {
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* base;
  size_t size;
  pthread_attr_getstack(&attributes, &base, &size);
  lowest = reinterpret_cast<uintptr_t>(base), highest = lowest + size;
  static char alternate[1 << 16];  // the handler runs here, so that it does no harm
  stack_t own = {};
  own.ss_sp = alternate, own.ss_size = sizeof alternate;
  sigaltstack(&own, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = sample;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);

  const engine cpu(engine::kind::cpu, 0);
  stream queue(cpu);
  const memory::dim m = 512, n = 512, k = 512;
  const memory::desc rows({m, k}, memory::data_type::f32, memory::format_tag::ab), columns({k, n}, memory::data_type::f32, memory::format_tag::ab);
  const memory::desc out({m, n}, memory::data_type::f32, memory::format_tag::ab);
  const matmul product(matmul::primitive_desc(matmul::desc(rows, columns, out), cpu));
  std::vector<float> a(m * k, 1), b(k * n, 1), c(m * n);
  memory am(rows, cpu, a.data()), bm(columns, cpu, b.data()), cm(out, cpu, c.data());
  const itimerval often = {{0, 1000}, {0, 1000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  while (inside + outside < 1000) product.execute(queue, {{DNNL_ARG_SRC, am}, {DNNL_ARG_WEIGHTS, bm}, {DNNL_ARG_DST, cm}});
  const itimerval never = {};
  setitimer(ITIMER_REAL, &never, nullptr);
  std::printf("of 1000 signals %ld in the thread's stack, %ld elsewhere\n", inside.load(), outside.load());
}
CPP
libraries=$(dirname "$(find usr -name 'libdnnl.so.2*' | head -1)")
g++ -std=c++17 -O1 -Iusr/include samples.cpp -o samples "$libraries"/libdnnl.so.2 -Wl,-rpath,"$folder/$libraries" -fopenmp
OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 ./samples | tee answer
[ "$(sed 's/.*, \([0-9]*\) elsewhere/\1/' answer)" -ge 500 ]
