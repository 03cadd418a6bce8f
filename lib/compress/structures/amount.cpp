#include "compress/structures/amount.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/units.h"

namespace hone {

Amount parse_amount(const std::string& text, const std::string& entry) {
  Amount amount;
  amount.text = entry;
  amount.is_fraction = text.find_first_of("%.") != std::string::npos;
  try {
    if (amount.is_fraction)
      amount.fraction = parse_fraction(text);
    else
      amount.count = parse_count(text);
  } catch (const Error& error) {
    throw usage_error("structure '{}': {}", entry, error.what());
  }
  if (amount.is_fraction ? amount.fraction <= 0 : amount.count < 1)
    throw usage_error("structure '{}' removes nothing; leave it out or give more", entry);
  return amount;
}

int64_t whole(const Amount& amount, int64_t all) {
  if (!amount.is_fraction) return amount.count;
  return static_cast<int64_t>(std::floor(amount.fraction * static_cast<double>(all) + 1e-9));
}

std::string percent(int64_t part, int64_t all) {
  return fmt::format("{:.4g}%", 100 * static_cast<double>(part) / static_cast<double>(all));
}

void require_within(const Amount& amount, int64_t wanted, int64_t least, int64_t most, int64_t all,
                    const std::string& of, const std::string& hint) {
  if (most < least) throw usage_error("structure '{}': {} has {}, of which none can go", amount.text, of, all);
  if (wanted > most)
    throw usage_error("structure '{}' would leave nothing of the {} of {}; at most {} ({}) can go{}", amount.text, all,
                      of, most, percent(most, all), hint);
  if (wanted < least)
    throw usage_error("structure '{}' removes none of the {} of {}; the least that goes is {} ({})", amount.text, all,
                      of, least, percent(least, all));
}

int64_t width_to_remove(const Amount& amount, int64_t all, int64_t multiple, const std::string& of,
                        const std::string& hint) {
  if (!amount.is_fraction) {
    require_within(amount, amount.count, 1, all - 1, all, of, hint);
    return amount.count;
  }
  if (amount.fraction >= 1) require_within(amount, all, 1, all - 1, all, of, hint);
  const double stays = (1 - amount.fraction) * static_cast<double>(all);
  const int64_t steps = std::llround(stays / static_cast<double>(multiple));
  const int64_t width = std::max<int64_t>(steps, 1) * multiple;
  const int64_t widest = (all - 1) / multiple * multiple;  // the widest that is smaller
  if (widest < multiple)
    throw usage_error("structure '{}': {} are {}, no more than one multiple of {}; a smaller multiple of widths helps",
                      amount.text, of, all, multiple);
  if (width >= all)
    throw usage_error("structure '{}' removes none of the {} of {} where widths are multiples of {}; the least is {}",
                      amount.text, all, of, multiple, percent(all - widest, all));
  return all - width;
}

void require_some(const Amount& amount, int64_t there, const char* what) {
  if (there == 0) throw usage_error("structure '{}': the model has no {}", amount.text, what);
}

}  // namespace hone
