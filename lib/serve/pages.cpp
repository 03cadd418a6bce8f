#include "serve/pages.h"

#include <algorithm>

#include "base/error.h"
#include "base/random.h"

namespace hone {

Pages::Pages(int64_t pages, int64_t page_rows)
    : page_rows_(page_rows), refs_(static_cast<size_t>(pages), 0), in_tree_(static_cast<size_t>(pages), false) {
  for (int64_t page = pages; page-- > 0;) free_.push_back(static_cast<int32_t>(page));
}

std::optional<int32_t> Pages::take() {
  if (free_.empty() && !evict()) return {};
  const int32_t page = free_.back();
  free_.pop_back();
  refs(page) = 1;
  return page;
}

void Pages::share(int32_t page) {
  idle_ -= in_tree_[static_cast<size_t>(page)] && refs(page) == 1;
  ++refs(page);
}

void Pages::release(int32_t page) {
  if (refs(page) < 1) throw internal_error("page {} is given back twice", page);
  if (--refs(page) == 0)
    free_.push_back(page);
  else
    idle_ += in_tree_[static_cast<size_t>(page)] && refs(page) == 1;
}

uint64_t Pages::key(int32_t parent, std::span<const int32_t> ids) {
  uint64_t hash = mix64(static_cast<uint64_t>(parent) + 1);
  for (const int32_t id : ids) hash = mix64(hash ^ static_cast<uint64_t>(id));
  return hash;
}

int32_t Pages::child(int32_t parent, std::span<const int32_t> ids) {
  const auto [begin, end] = by_key_.equal_range(key(parent, ids));
  for (auto it = begin; it != end; ++it)
    if (const Node& node = at(it->second); node.parent == parent && std::ranges::equal(node.ids, ids))
      return it->second;
  return root;
}

Pages::Hit Pages::find(std::span<const int32_t> ids, int64_t most, bool needs_kept) {
  Hit hit;
  std::vector<int32_t> path;
  int32_t last = root;
  ++clock_;
  const auto page_at = [&](int64_t first, int64_t count) {
    return ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  };
  for (int64_t first = 0; first + page_rows_ <= most; first += page_rows_) {
    const int32_t next = child(last, page_at(first, page_rows_));
    if (next == root) break;
    at(next).used = clock_;
    path.push_back(last = next);
    hit.in_tree = first + page_rows_;
    if (needs_kept && !kept(next)) continue;
    hit.tokens = hit.in_tree;
    hit.node = next;
    hit.kept = at(next).kept;
  }
  path.resize(static_cast<size_t>(hit.tokens / page_rows_));
  for (const int32_t node : path) {
    hit.pages.push_back(at(node).page);
    share(at(node).page);
  }
  if (needs_kept) return hit;
  // Of the page after them, as many whole blocks as some page of the tree shares.
  constexpr int64_t block = kernels::attention_block;
  const int64_t left = std::min(most - hit.tokens, page_rows_) / block * block;
  for (Node& node : nodes_) {
    if (left == 0 || node.ids.empty() || node.parent != hit.node) continue;
    const auto rest = page_at(hit.tokens, left);
    const int64_t same = std::mismatch(rest.begin(), rest.end(), node.ids.begin()).first - rest.begin();
    if (same / block * block <= hit.partial_rows) continue;
    hit.partial_rows = same / block * block;
    hit.partial = node.page;
    node.used = clock_;
  }
  hit.tokens += hit.partial_rows;
  if (hit.partial >= 0) share(hit.partial);
  return hit;
}

int32_t Pages::insert(int32_t parent, std::span<const int32_t> ids, int32_t& page) {
  ++clock_;
  if (const int32_t there = child(parent, ids); there != root) {
    at(there).used = clock_;
    if (at(there).page != page) {
      share(at(there).page);
      release(page);
      page = at(there).page;
    }
    return there;
  }
  int32_t place;
  if (spare_.empty()) {
    place = static_cast<int32_t>(nodes_.size());
    nodes_.emplace_back();
  } else {
    place = spare_.back();
    spare_.pop_back();
  }
  at(place) = {parent, page, 0, clock_, {ids.begin(), ids.end()}, nullptr};
  if (parent != root) ++at(parent).children;
  by_key_.emplace(key(parent, ids), place);
  in_tree_[static_cast<size_t>(page)] = true;
  ++refs(page);
  return place;
}

void Pages::keep(int32_t node, State::Kept kept) {
  at(node).kept = std::make_shared<const State::Kept>(std::move(kept));
}

// The longest unused leaf that no sequence has.
bool Pages::evict() {
  int32_t oldest = root;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    if (node.ids.empty() || node.children > 0 || refs(node.page) > 1) continue;
    if (oldest == root || node.used < at(oldest).used) oldest = static_cast<int32_t>(i);
  }
  if (oldest == root) return false;
  remove(oldest);
  return true;
}

void Pages::remove(int32_t place) {
  Node& node = at(place);
  const auto [begin, end] = by_key_.equal_range(key(node.parent, node.ids));
  for (auto it = begin; it != end; ++it)
    if (it->second == place) {
      by_key_.erase(it);
      break;
    }
  if (node.parent != root) --at(node.parent).children;
  in_tree_[static_cast<size_t>(node.page)] = false;
  --idle_;  // it was counted while only the tree had it
  refs(node.page) = 0;
  free_.push_back(node.page);
  node = Node();
  spare_.push_back(place);
}

}  // namespace hone
