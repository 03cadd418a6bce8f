// How fast models of others are loaded, beside a plain loop that reads the same files. Not a test: it measures. Build
// it with `cmake --build build --target load_speed`; it is run as
//   build/tests/load_speed MODEL [ROUNDS]
// where MODEL is what convert takes. Each line has the best and the median of the rounds, in GB of the files a second
// and beside the best of the loop, by one thread and by all:
//   arrays whole     every array read into memory, one after the other: memory that is used again
//   all in memory    the same, and all of them kept: memory that is new to the process
//   checksums        what convert does before it writes: every array read piece by piece, and its checksum taken
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "base/threads.h"
#include "exchange/format.h"
#include "io/checksum.h"
#include "io/descriptor.h"
#include "kernels/parallel.h"

using namespace hone;

namespace {

namespace fs = std::filesystem;

constexpr int64_t piece_bytes = int64_t{256} << 10;

struct Files {
  std::vector<Descriptor> open;
  uint64_t bytes = 0;
};

void add_file(Files& files, const fs::path& path) {
  files.open.emplace_back(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!files.open.back()) throw input_error("cannot read '{}': {}", path.string(), std::strerror(errno));
  files.bytes += fs::file_size(path);
}

Files files_of_model(const std::string& model) {
  Files files;
  if (!fs::is_directory(model)) {
    add_file(files, model);
  } else {
    for (const auto& entry : fs::directory_iterator(model))
      if (entry.path().extension() == ".safetensors") add_file(files, entry.path());
  }
  return files;
}

// As dd does with bs=1M: one buffer, again and again.
void read_loop(const Files& files) {
  static std::vector<char> buffer(1 << 20);
  for (const Descriptor& file : files.open)
    for (off_t at = 0;;) {
      const ssize_t got = pread(file.fd(), buffer.data(), buffer.size(), at);
      if (got < 0) throw input_error("cannot read: {}", std::strerror(errno));
      if (got == 0) break;
      at += got;
    }
}

void require_read(int error) {
  if (error != 0) throw input_error("cannot read: {}", std::strerror(error));
}

Tensor whole(const Imported& imported, const std::string& name, const Tensor& promise) {
  const Tensor values = Tensor::empty(promise.shape());
  const std::span<std::byte> all(values.raw(), values.bytes());
  std::atomic<int> error{0};
  kernels::parallel_each((static_cast<int64_t>(all.size()) + piece_bytes - 1) / piece_bytes, [&](int64_t i) {
    const auto begin = static_cast<size_t>(i * piece_bytes);
    const size_t size = std::min<size_t>(piece_bytes, all.size() - begin);
    if (const int failed = imported.read(name, "values", begin, all.subspan(begin, size))) error = failed;
  });
  require_read(error);
  return values;
}

void load(const Imported& imported, bool kept) {
  std::vector<Tensor> all;
  for (const auto& [name, encoded] : imported.file.parameters) {
    const Tensor values = whole(imported, name, encoded.arrays.at("values"));
    if (kept) all.push_back(values);
  }
  all.clear();
  if (kept) release_pool();
}

void take_checksums(const Imported& imported) {
  std::vector<std::pair<int64_t, std::string>> order;
  for (const auto& [name, encoded] : imported.file.parameters)
    order.emplace_back(encoded.arrays.at("values").bytes(), name);
  std::ranges::sort(order, std::greater<>());
  const Tensor buffers = Tensor::empty({kernels::threads(), piece_bytes}, DType::u8);
  std::atomic<int> error{0};
  kernels::parallel_each(static_cast<int64_t>(order.size()), [&](int64_t i) {
    const auto& [bytes, name] = order[static_cast<size_t>(i)];
    Checksum sum;
    for (int64_t begin = 0; begin < bytes; begin += piece_bytes) {
      const std::span<std::byte> piece(buffers.rows(kernels::thread_index(), 1).raw(),
                                       static_cast<size_t>(std::min(piece_bytes, bytes - begin)));
      if (const int failed = imported.read(name, "values", static_cast<uint64_t>(begin), piece)) error = failed;
      sum.add(piece);
    }
  });
  require_read(error);
}

// Returns the best.
double measure(const char* what, int threads, int rounds, uint64_t bytes, double loop, const std::function<void()>& f) {
  kernels::set_threads(threads);
  std::vector<double> seconds;
  for (int i = 0; i < rounds; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::ranges::sort(seconds);
  const double best = seconds.front(), median = seconds[seconds.size() / 2];
  fmt::print("{:<16} {} threads  best {:.3f} s  median {:.3f} s  {:5.2f} GB/s  {:4.0f}% of the loop\n", what, threads,
             best, median, static_cast<double>(bytes) / best / 1e9, 100 * (loop > 0 ? loop / best : 1));
  std::fflush(stdout);
  return best;
}

void run(const std::string& model, int rounds) {
  const ForeignFormat* format = foreign_format_of(model);
  if (!format) throw usage_error("'{}' is no model of others", model);
  const Files files = files_of_model(model);
  const Imported imported = format->read(model);
  fmt::print("{}: {:.1f} MB in files\n", imported.what, static_cast<double>(files.bytes) / 1e6);
  const double loop = measure("read loop", 1, rounds, files.bytes, 0, [&] { read_loop(files); });
  const int all = choose_threads(0, 1).count;
  for (int threads = 1;; threads = all) {
    const auto line = [&](const char* what, const std::function<void()>& f) {
      measure(what, threads, rounds, files.bytes, loop, f);
    };
    line("arrays whole", [&] { load(imported, false); });
    line("all in memory", [&] { load(imported, true); });
    line("checksums", [&] { take_checksums(imported); });
    if (threads == all) break;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::puts("load_speed MODEL [ROUNDS]"), 2;
  try {
    run(argv[1], argc > 2 ? std::max(1, std::atoi(argv[2])) : 9);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
