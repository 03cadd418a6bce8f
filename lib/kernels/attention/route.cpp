#include "kernels/attention/route.h"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "base/error.h"
#include "kernels/isa/kernel_set.h"
#include "kernels/parallel.h"
#include "kernels/scratch.h"

namespace hone::kernels {
namespace {

thread_local Scratch route_scratch;

void check(const AttentionDims& d, const RouteRule& rule) {
  if (rule.block < 1 || rule.block % attention_block || rule.count < 1 || rule.window < 0 || d.kv_heads < 1 ||
      d.heads % d.kv_heads || d.head_dim < 1)
    throw internal_error("routed attention: block {}, count {}, window {}, heads {} of {}, head_dim {}", rule.block,
                         rule.count, rule.window, d.heads, d.kv_heads, d.head_dim);
}

// What some queries visit: bits of them by key block of 64, and which blocks those are.
class Choices {
 public:
  void make_room(int64_t key_blocks) {
    if (static_cast<size_t>(key_blocks) > bits_.size()) {
      bits_.resize(static_cast<size_t>(key_blocks));
      used_.resize(static_cast<size_t>((key_blocks + 63) / 64));
    }
  }
  void add(int64_t key_block, uint64_t queries) {
    used_[static_cast<size_t>(key_block / 64)] |= uint64_t{1} << key_block % 64;
    bits_[static_cast<size_t>(key_block)] |= queries;
  }
  // The blocks that the window of queries at positions first … last shows, whoever chose them.
  void add_window(int64_t first, int64_t last, int64_t window) {
    if (window == 0) return;
    for (int64_t j = std::max<int64_t>(0, first - window + 1) / attention_block; j <= last / attention_block; ++j)
      add(j, 0);
  }
  // Hands them to f(key block, bits) in the order of the blocks, and forgets them.
  template <class F>
  void take(F&& f) {
    for (size_t word = 0; word < used_.size(); ++word) {
      for (uint64_t left = used_[word]; left; left &= left - 1) {
        const size_t at = 64 * word + static_cast<size_t>(std::countr_zero(left));
        f(static_cast<int32_t>(at), bits_[at]);
        bits_[at] = 0;
      }
      used_[word] = 0;
    }
  }

 private:
  std::vector<uint64_t> bits_;  // of each key block
  std::vector<uint64_t> used_;  // bit j % 64 of entry j / 64: key block j is visited, if by none of the bits
};

thread_local Choices choices;

// Key blocks of 64 that query c of a block, at `position`, sees by its choice: its own block's and the chosen ones'.
template <class F>
void blocks_seen(const RouteRule& rule, int64_t position, const int32_t* chosen, int64_t c, F&& f) {
  const int64_t tiles = rule.block / attention_block;
  for (int64_t j = position / rule.block * tiles; j <= position / attention_block; ++j) f(j);
  for (int64_t n = 0; n < rule.count - 1; ++n) {
    const int32_t block = chosen[n * attention_block + c];
    if (block < 0) break;
    for (int64_t t = 0; t < tiles; ++t) f(block * tiles + t);
  }
}

}  // namespace

void summarize_keys(ConstHeadRows k, int64_t sequence, int64_t kv_heads, int64_t head_dim, int64_t first, int64_t rows,
                    int64_t block, float* summaries, int64_t head_stride) {
  const AttentionKernels& kernels = kernel_set().attention;
  // By blocks, whose summaries do not meet; the heads of a row lie together.
  const int64_t begin = first / block, end = (first + rows + block - 1) / block;
  auto add = [&](int64_t index) {
    const int64_t from = std::max(first, (begin + index) * block),
                  to = std::min(first + rows, from / block * block + block);
    const ConstHeadRows part = starting_at(k, 0, from - first);
    for (int64_t head = 0; head < kv_heads; ++head)
      kernels.summarize_head(part, sequence, head, from, to - from, head_dim, block, summaries + head * head_stride);
  };
  parallel_each(end - begin, add);
}

void route(const AttentionDims& dims, ConstHeadRows q, const KeySummaries& summaries, const RouteRule& rule,
           std::vector<int32_t>& chosen) {
  check(dims, rule);
  RouteArgs args;
  args.dims = dims;
  args.q = q;
  args.summaries = summaries.data;
  args.summaries_batch_stride = summaries.batch_stride;
  args.summaries_head_stride = summaries.head_stride;
  args.blocks = std::min(summaries.blocks, (dims.query_offset + dims.queries - 1) / rule.block);  // complete ones
  args.block = rule.block;
  args.count = rule.count - 1;
  args.window = rule.window;
  args.query_blocks = (dims.queries + attention_block - 1) / attention_block;
  const int64_t size = dims.batch * dims.heads * args.query_blocks * args.count * attention_block;
  chosen.assign(static_cast<size_t>(size), -1);
  if (args.count == 0 || args.blocks <= 0) return;
  args.chosen = chosen.data();
  const AttentionKernels& kernels = kernel_set().attention;
  const size_t bytes = kernels.route_scratch(args);
  // Query blocks of an item, which packs the summaries once: as many as leave several items for each thread.
  const int64_t pairs = dims.batch * dims.kv_heads;
  const int64_t together = std::clamp<int64_t>(args.query_blocks * pairs / (4 * threads()), 4, 64);
  const int64_t parts = (args.query_blocks + together - 1) / together;
  parallel_each(pairs * parts, [&](int64_t index) {
    const int64_t pair = index / parts, part = parts - 1 - index % parts;
    RouteItem item;
    item.sequence = pair / dims.kv_heads;
    item.kv_head = pair % dims.kv_heads;
    item.begin = part * together;
    item.end = std::min(item.begin + together, args.query_blocks);
    item.scratch = route_scratch.at_least(bytes);
    kernels.route(args, item);
  });
}

std::shared_ptr<const BlockPlan> routed_plan(const AttentionDims& dims, ConstHeadRows q, const KeySummaries& summaries,
                                             const RouteRule& rule) {
  std::vector<int32_t> chosen;
  route(dims, q, summaries, rule, chosen);
  auto plan = std::make_shared<BlockPlan>();
  plan->shape = {dims.queries, dims.keys, dims.query_offset};
  plan->rule.window = rule.window;
  plan->lists = dims.batch * dims.heads;
  const int64_t query_blocks = (dims.queries + attention_block - 1) / attention_block;
  const int64_t key_blocks = (dims.keys + attention_block - 1) / attention_block;
  build_plan(*plan, [&](int64_t list, int64_t i, std::vector<SelectedBlock>& selected) {
    choices.make_room(key_blocks);
    const int32_t* from = chosen.data() + (list * query_blocks + i) * (rule.count - 1) * attention_block;
    const int64_t count = std::min(attention_block, dims.queries - i * attention_block);
    const int64_t first = dims.query_offset + i * attention_block;
    for (int64_t c = 0; c < count; ++c)
      blocks_seen(rule, first + c, from, c, [&](int64_t j) { choices.add(j, uint64_t{1} << c); });
    choices.add_window(first, first + count - 1, rule.window);
    choices.take([&](int32_t j, uint64_t bits) { selected.push_back({j, bits}); });
  });
  return plan;
}

void routed_visits(const AttentionDims& dims, ConstHeadRows q, const KeySummaries& summaries, const RouteRule& rule,
                   std::vector<int64_t>& starts, std::vector<DecodeVisit>& visits) {
  thread_local std::vector<int32_t> chosen;  // one decoded token after the other
  route(dims, q, summaries, rule, chosen);
  const int64_t in_group = dims.heads / dims.kv_heads, position = dims.query_offset;
  choices.make_room(position / attention_block + 1);
  for (int64_t kv = 0; kv < dims.kv_heads; ++kv) {
    for (int64_t g = 0; g < in_group; ++g)
      blocks_seen(rule, position, chosen.data() + (kv * in_group + g) * (rule.count - 1) * attention_block, 0,
                  [&](int64_t j) { choices.add(j, uint64_t{1} << g); });
    choices.add_window(position, position, rule.window);
    choices.take([&](int32_t block, uint64_t bits) { visits.push_back({block, bits}); });
    starts.push_back(static_cast<int64_t>(visits.size()));
  }
}

}  // namespace hone::kernels
