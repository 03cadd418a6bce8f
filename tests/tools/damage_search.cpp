// Damages a model file at random, again and again, and reads it: nothing may crash or hang, and no damage to Hone's own
// form may change the model without being found. Not a test: HDF5 itself is fed what it was not made for. Build it with
// `cmake --build build --target damage_search`; it is run as
//   build/tests/damage_search [SEED] [ROUNDS]
// prints its seed, a new one each time where none is given, and leaves the file behind that failed.
#include <hdf5.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "base/error.h"
#include "base/random.h"
#include "lib/io/example.h"

using namespace hone;

namespace {

// A copy in the oldest format, whose structures have no checksums.
void copy_in_old_format(const std::string& from, const std::string& to) {
  const hid_t source = H5Fopen(from.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t target = H5Fcreate(to.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  for (const char* name : {"config", "tokenizer", "lineage", "parameters", "run"})
    H5Ocopy(source, name, target, name, H5P_DEFAULT, H5P_DEFAULT);
  for (const char* name : {"format", "format_version"}) {
    const hid_t a = H5Aopen(source, name, H5P_DEFAULT), type = H5Aget_type(a), space = H5Aget_space(a);
    const hid_t b = H5Acreate2(target, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    char value[64];
    H5Aread(a, type, value);
    H5Awrite(b, type, value);
    H5Aclose(b);
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(a);
  }
  H5Fclose(target);
  H5Fclose(source);
}

std::string damaged(const std::string& good, Random& random) {
  std::string bad = good;
  const size_t at = random.below(bad.size());
  switch (random.below(4)) {
    case 0:
      bad.resize(at);
      break;
    case 1:
      for (size_t i = at; i < std::min(at + 16, bad.size()); ++i) bad[i] = static_cast<char>(random.below(256));
      break;
    case 2:
      for (uint64_t n = random.below(8); n < 8; ++n)
        bad[random.below(bad.size())] = static_cast<char>(random.below(256));
      break;
    default:
      bad[at] = static_cast<char>(bad[at] ^ (1 << random.below(8)));
  }
  return bad;
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device{}();
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 2000;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  const test::Scratch scratch;
  const ModelFile model = test::example(true);
  write_model_file(scratch / "new.h5", model, false);
  copy_in_old_format(scratch / "new.h5", scratch / "old.h5");
  const std::string checked = test::bytes_of(scratch / "new.h5"), unchecked = test::bytes_of(scratch / "old.h5");
  const std::string kept = "damage-" + std::to_string(seed) + ".h5";
  Random random(seed, "damage");
  int refused = 0;
  for (int round = 0; round < rounds; ++round) {
    const bool own_form = round % 2 == 0;
    const std::string bad = damaged(own_form ? checked : unchecked, random);
    test::put_bytes(kept, bad);  // stays where this process dies or hangs
    const auto begin = std::chrono::steady_clock::now();
    const bool accepted = test::complaint(kept, {.run = true}).empty();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    refused += !accepted;
    const bool changed = accepted && own_form && !test::same(read_model_file(kept, {.run = true}), model);
    if (changed || seconds.count() > 60) {
      std::printf("round %d: %s; see %s\n", round, changed ? "damage is not found" : "takes too long", kept.c_str());
      return 1;
    }
  }
  std::remove(kept.c_str());
  std::printf("%d rounds, %d files refused\n", rounds, refused);
  return 0;
}
