#include "compress/structures/amount.h"

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

void require_some(const Amount& amount, int64_t there, const char* what) {
  if (there == 0) throw usage_error("structure '{}': the model has no {}", amount.text, what);
}

}  // namespace hone
