#include "kernels/elementwise.h"

#include <cstring>

#include "kernels/parallel.h"

namespace hone::kernels {

void zero(void* data, size_t bytes) {
  parallel_for(static_cast<int64_t>(bytes), 1 << 20, [&](int64_t begin, int64_t end) {
    std::memset(static_cast<char*>(data) + begin, 0, static_cast<size_t>(end - begin));
  });
}

namespace {

float load(float x) { return x; }
float load(bf16 x) { return to_float(x); }
void store(float& to, float x) { to = x; }
void store(bf16& to, float x) { to = to_bf16(x); }

}  // namespace

void convert(ConstView from, View to) {
  with_float_type(from.dtype, [&]<class A>(A*) {
    with_float_type(to.dtype, [&]<class B>(B*) {
      parallel_for(from.rows, 1 + 32768 / (from.cols + 1), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          for (int64_t c = 0; c < from.cols; ++c) store(to.row<B>(r)[c], load(from.row<A>(r)[c]));
      });
    });
  });
}

void add(View into, ConstView from) {
  with_float_type(into.dtype, [&]<class T>(T*) {
    parallel_for(from.rows, 1 + 32768 / (from.cols + 1), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < from.cols; ++c)
          store(into.row<T>(r)[c], load(into.row<T>(r)[c]) + load(from.row<T>(r)[c]));
    });
  });
}

}  // namespace hone::kernels
