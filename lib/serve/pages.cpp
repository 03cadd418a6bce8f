#include "serve/pages.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"

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

bool Pages::Before::operator()(const auto& a, const auto& b) const {
  const Key left = key(a), right = key(b);
  if (left.parent != right.parent) return left.parent < right.parent;
  return std::ranges::lexicographical_compare(left.ids, right.ids);
}

int32_t Pages::child(int32_t parent, std::span<const int32_t> ids) const {
  const auto found = sorted_.find(Key{parent, ids});
  return found == sorted_.end() ? root : *found;
}

// Of sorted tokens, those on either side of where `ids` would stand share most with them.
Pages::Nearest Pages::nearest(int32_t parent, std::span<const int32_t> ids) const {
  Nearest nearest;
  const auto look = [&](int32_t place) {
    const Node& node = nodes_[static_cast<size_t>(place)];
    if (node.parent != parent) return;
    const int64_t same = std::ranges::mismatch(ids, node.ids).in1 - ids.begin();
    if (same > nearest.same) nearest = {place, same};
  };
  const auto behind = sorted_.lower_bound(Key{parent, ids});
  if (behind != sorted_.end()) look(*behind);
  if (behind != sorted_.begin()) look(*std::prev(behind));
  return nearest;
}

Pages::Hit Pages::find(const Input& prompt, int64_t most, bool needs_kept) {
  Hit hit;
  std::vector<int32_t> path;
  ++clock_;
  const auto page_at = [&](int64_t first, int64_t count) {
    return prompt.ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  };
  int64_t end = 0;  // of the pages on the path
  for (int32_t last = root; end + page_rows_ <= most; end += page_rows_) {
    last = child(last, page_at(end, page_rows_));
    if (last == root) break;
    at(last).used = clock_;
    path.push_back(last);
    if (prompt.cuts(end + page_rows_)) continue;
    hit.in_tree = end + page_rows_;
    if (kept(last)) hit.tokens = hit.in_tree;
  }
  Nearest next;  // of the page after them, as much as some page of the tree shares
  if (!needs_kept) {
    next = nearest(path.empty() ? root : path.back(), page_at(end, std::min(most - end, page_rows_)));
    hit.tokens = prompt.uncut_before(end + next.same, grain);
  }
  const auto pages = static_cast<size_t>(hit.tokens / page_rows_);
  for (size_t i = 0; i < pages; ++i) {
    hit.node = path[i];
    hit.pages.push_back(at(hit.node).page);
    share(hit.pages.back());
  }
  if (needs_kept && pages > 0) hit.kept = at(hit.node).kept;
  hit.partial_rows = hit.tokens % page_rows_;
  if (hit.partial_rows == 0) return hit;
  const int32_t partial = pages < path.size() ? path[pages] : next.node;
  hit.partial = at(partial).page;
  at(partial).used = clock_;
  share(hit.partial);
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
  return add(parent, ids, page);
}

void Pages::insert_part(int32_t parent, std::span<const int32_t> ids, int32_t page) {
  ++clock_;
  const Nearest here = nearest(parent, ids);
  if (here.same == static_cast<int64_t>(ids.size()))
    at(here.node).used = clock_;
  else
    add(parent, ids, page);
}

// A part that the new node has all tokens of goes: parts begin no other one, and what shares most with the new one is
// the only one that it could begin with.
int32_t Pages::add(int32_t parent, std::span<const int32_t> ids, int32_t page) {
  if (const Nearest here = nearest(parent, ids);
      here.node != root && here.same == static_cast<int64_t>(at(here.node).ids.size()))
    remove(here.node);
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
  sorted_.insert(place);
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

// A leaf. Sequences may have its page, and keep it.
void Pages::remove(int32_t place) {
  Node& node = at(place);
  sorted_.erase(place);
  if (node.parent != root) --at(node.parent).children;
  if (refs(node.page) == 1) --idle_;  // it was counted while only the tree had it
  in_tree_[static_cast<size_t>(node.page)] = false;
  if (--refs(node.page) == 0) free_.push_back(node.page);
  node = Node();
  spare_.push_back(place);
}

}  // namespace hone
