#include "kernels/tiles/tiles.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/cpu.h"
#include "base/log.h"
#include "base/random.h"
#include "kernels/isa/function.h"
#include "kernels/isa/gemm/table.h"
#include "kernels/panel.h"
#include "kernels/tiles/emulation.h"

namespace hone::kernels::tiles {
namespace {

std::atomic<bool> is_given{false};
std::atomic<const TileUnit*> given{nullptr};

const TileUnit* checked_unit() {
  static const TileUnit* const checked = []() -> const TileUnit* {
    const TileUnit& unit = functions<TileUnit>();
    if (!unit.product) return nullptr;
    if (agrees_with_emulation(unit)) return &unit;
    log_warning("the tile unit (AMX) does not compute what its manual says: it is used through oneDNN only");
    return nullptr;
  }();
  return checked;
}

// Numbers of both signs, from those too small to be normal to such that no sum of products overflows.
std::vector<bf16> halves_of_all_sizes(size_t count, uint64_t seed) {
  Random random(seed, "tiles");
  std::vector<bf16> v(count);
  for (bf16& x : v) {
    const auto exponent = static_cast<uint32_t>(random.below(8) == 0 ? random.below(140) : 120 + random.below(12));
    x.bits = static_cast<uint16_t>((random.next() & 0x807fu) | exponent << 7);
  }
  return v;
}

// Not whole tiles in any direction.
constexpr int64_t check_rows = 53, check_words = 21;

std::vector<float> check_product(const TileUnit& unit) {
  const auto a = halves_of_all_sizes(check_rows * check_words * 2, 1);
  const auto b = halves_of_all_sizes(check_words * panel_rows * 2, 2);
  std::vector<float> c(check_rows * panel_rows);
  Random random(3, "tiles");
  for (float& x : c) x = static_cast<float>(random.normal());
  const Region region(&unit, side);
  unit.product({reinterpret_cast<const char*>(a.data()), 4 * check_words, 4, check_rows, check_words, b.data(),
                c.data(), panel_rows, true, false});
  return c;
}

std::vector<float> check_segment(const TileUnit& unit, int64_t depth) {
  Random random(4, "tiles");
  std::vector<uint8_t> tiles(check_words * 4 * panel_rows), x(check_rows * 4 * check_words);
  for (auto* bytes : {&tiles, &x})
    for (uint8_t& byte : *bytes) byte = static_cast<uint8_t>(random.next());
  std::vector<int32_t> starts(check_rows);
  for (int32_t& start : starts) start = static_cast<int32_t>(random.next());
  std::vector<float> x_scales(check_rows), y(check_rows * panel_rows);
  std::vector<bf16> scales(panel_rows);
  for (float& scale : x_scales) scale = static_cast<float>(random.normal());
  for (bf16& scale : scales) scale = to_bf16(static_cast<float>(random.normal()));
  const Region region(&unit, depth);
  unit.add_segment({depth, tiles.data(), check_words, x.data(), 4 * check_words, check_rows, starts.data(),
                    x_scales.data(), scales.data(), y.data()});
  return y;
}

bool same_bits(const std::vector<float>& x, const std::vector<float>& y) {
  return std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
}

}  // namespace

const TileUnit* unit() {
  if (is_given.load(std::memory_order_relaxed)) return given.load(std::memory_order_relaxed);
  return isa() == Isa::amx ? checked_unit() : nullptr;
}

bool agrees_with_emulation(const TileUnit& unit) {
  const TileUnit& emulated = emulated_unit();
  if (!same_bits(check_product(unit), check_product(emulated))) return false;
  for (const int64_t depth : {side, side / 2})
    if (!same_bits(check_segment(unit, depth), check_segment(emulated, depth))) return false;
  return true;
}

UnitScope::UnitScope(const TileUnit* unit) {
  given = unit;
  is_given = true;
}

UnitScope::~UnitScope() {
  is_given = false;
}

}  // namespace hone::kernels::tiles
