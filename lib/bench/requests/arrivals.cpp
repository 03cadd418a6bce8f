#include "bench/requests/arrivals.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/integers.h"
#include "base/json.h"
#include "base/random.h"
#include "dataset/text_file.h"

namespace hone {
namespace {

using nlohmann::json;

constexpr double longest_trace = 366 * 86400.0;     // seconds
constexpr int64_t most_tokens = 1'000'000'000'000;  // of a length: sums of them stay whole numbers

const json& member(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) throw input_error("it has no \"{}\"", name);
  return *found;
}

int64_t length_of(const json& object, const char* name) {
  const json& given = member(object, name);
  if (!given.is_number_integer() || given < 1 || given > most_tokens)
    throw input_error("\"{}\" is a number of tokens from 1 to {}, not {}", name, most_tokens, given.dump());
  return given;
}

std::vector<int64_t> blocks_of(const json& object, int64_t length) {
  std::vector<int64_t> blocks;
  const auto found = object.find("hash_ids");
  if (found == object.end()) return blocks;
  if (!found->is_array()) throw input_error("\"hash_ids\" is a list of whole numbers, not {}", found->dump());
  for (const json& id : *found) {
    if (!id.is_number_integer() || (id.is_number_unsigned() && id > std::numeric_limits<int64_t>::max()))
      throw input_error("\"hash_ids\" is a list of whole numbers below 2^63, not of {}", id.dump());
    blocks.push_back(id);
  }
  if (static_cast<int64_t>(blocks.size()) != ceil_div(length, trace_block))
    throw input_error("{} tokens are {} blocks of {}, and \"hash_ids\" has {}", length, ceil_div(length, trace_block),
                      trace_block, blocks.size());
  return blocks;
}

Arrival read_line(const std::string& text, int64_t divide) {
  const json object = require_json(text, "it");
  if (!object.is_object()) throw input_error("it is no JSON object");
  Arrival arrival;
  const json& time = member(object, "timestamp");
  if (!time.is_number() || !std::isfinite(time.get<double>()) || time < 0)
    throw input_error("\"timestamp\" is a number of milliseconds, not {}", time.dump());
  arrival.seconds = time.get<double>() / 1e3;
  const int64_t prompt = length_of(object, "input_length");
  arrival.blocks = blocks_of(object, prompt);
  arrival.prompt = ceil_div(prompt, divide);
  arrival.tokens = ceil_div(length_of(object, "output_length"), divide);
  return arrival;
}

int64_t draw(Random& random, LengthRange range) {
  return range.low + static_cast<int64_t>(random.below(static_cast<uint64_t>(range.high - range.low + 1)));
}

}  // namespace

std::vector<Arrival> read_trace(const std::string& path, int64_t divide, int64_t count) {
  const FileText file = read_file_text(path);
  const std::string_view all = file.bytes.text;
  std::vector<Arrival> arrivals;
  int64_t number = 0;
  for (size_t begin = 0; begin < all.size() && (count == 0 || static_cast<int64_t>(arrivals.size()) < count);) {
    const size_t end = std::min(all.find('\n', begin), all.size());
    const std::string text(all.substr(begin, end - begin));
    begin = end + 1;
    ++number;
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      arrivals.push_back(read_line(text, divide));
      Arrival& last = arrivals.back();
      last.number = number;
      if (last.seconds - arrivals.front().seconds > longest_trace)
        throw input_error("it comes {:.3g} s after the first: no trace is longer than {:.3g} s; times are milliseconds",
                          last.seconds - arrivals.front().seconds, longest_trace);
      if (arrivals.size() > 1 && last.seconds < arrivals[arrivals.size() - 2].seconds)
        throw input_error("it came {:.3f} s before the line above: the times of a trace run forward",
                          arrivals[arrivals.size() - 2].seconds - last.seconds);
    } catch (const Error& error) {
      throw input_error("'{}' line {}: {}", path, number, error.what());
    }
  }
  if (arrivals.empty()) throw input_error("'{}' has no line with a request", path);
  const double first = arrivals.front().seconds;
  for (Arrival& arrival : arrivals) arrival.seconds -= first;
  return arrivals;
}

std::vector<Arrival> poisson_arrivals(double rate, int64_t count, LengthRange prompt, LengthRange tokens,
                                      uint64_t seed) {
  Random gaps(seed, "arrivals"), lengths(seed, "lengths");
  std::vector<Arrival> arrivals;
  double seconds = 0;
  for (int64_t i = 0; i < count; ++i) {
    seconds -= std::log1p(-gaps.uniform()) / rate;
    arrivals.push_back({.seconds = seconds, .prompt = draw(lengths, prompt), .number = i + 1});
    arrivals.back().tokens = draw(lengths, tokens);
  }
  return arrivals;
}

std::vector<int32_t> prompt_of(const Arrival& arrival, int64_t divide, int64_t vocabulary, uint64_t seed) {
  std::vector<int32_t> ids;
  const auto add = [&](Random random, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      ids.push_back(static_cast<int32_t>(1 + random.below(static_cast<uint64_t>(vocabulary - 1))));
  };
  if (arrival.blocks.empty()) add(Random(seed, fmt::format("prompt:{}", arrival.number)), arrival.prompt);
  for (size_t i = 0; i < arrival.blocks.size(); ++i) {
    const auto end = std::min(arrival.prompt, ceil_div(static_cast<int64_t>(i + 1) * trace_block, divide));
    add(Random(seed, fmt::format("block:{}", arrival.blocks[i])), end - static_cast<int64_t>(ids.size()));
  }
  return ids;
}

}  // namespace hone
