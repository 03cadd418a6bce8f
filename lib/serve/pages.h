// Pages of the cache of keys and values: which are free, how many share one, and which hold the beginnings of texts
// that may come again.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "model/input.h"
#include "nn/state.h"

namespace hone {

// A tree of pages: a node is a page and the tokens in it, its parent the page before. Leaves may be parts, the ends of
// prompts: first rows of a page behind which a sequence may still write its own, and which others copy. A page is
// counted once for the tree and once for each sequence that has it in its table. What only the tree has goes, the
// longest unused leaf first, when pages are needed.
class Pages {
 public:
  Pages(int64_t pages, int64_t page_rows);
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  int64_t page_rows() const { return page_rows_; }
  int64_t size() const { return static_cast<int64_t>(refs_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  int64_t available() const { return free() + idle_; }     // with those that only the tree has
  int64_t in_use() const { return size() - available(); }  // by sequences

  // A page for one sequence alone; nothing where none is available.
  std::optional<int32_t> take();
  void share(int32_t page);
  void release(int32_t page);

  static constexpr int32_t root = -1;
  // Tokens that begin a prompt alike are read alike up to a multiple of this: the last ones of fewer depend on what
  // follows them.
  static constexpr int64_t grain = kernels::attention_lanes;
  struct Hit {
    int64_t tokens = 0;          // a multiple of `grain`; with `needs_kept`, whole pages
    int64_t in_tree = 0;         // tokens that whole pages share, whether or not what is beside them was kept
    int32_t node = root;         // of the last whole page
    std::vector<int32_t> pages;  // shared already
    std::shared_ptr<const State::Kept> kept;
    int32_t partial = -1;  // a page whose first `partial_rows` rows follow, to be copied; shared already
    int64_t partial_rows = 0;
  };
  // The longest beginning of the prompt that is here, of at most `most` tokens, and dividing none of its parts; with
  // `needs_kept` one that has what stands beside pages.
  Hit find(const Input& prompt, int64_t most, bool needs_kept);
  // A full page after `parent`. Where the tree has these tokens already, `page` is given back for the tree's own, which
  // holds the same bits.
  int32_t insert(int32_t parent, std::span<const int32_t> ids, int32_t& page);
  // The first rows of a page after `parent`, where the tree has them nowhere else: fewer tokens than a page's, a
  // multiple of `grain`. Who has the page may go on writing behind them.
  void insert_part(int32_t parent, std::span<const int32_t> ids, int32_t page);
  void keep(int32_t node, State::Kept kept);
  bool kept(int32_t node) const { return node != root && nodes_[static_cast<size_t>(node)].kept != nullptr; }

 private:
  struct Node {
    int32_t parent = root, page = -1, children = 0;
    uint64_t used = 0;
    std::vector<int32_t> ids;  // empty: no node stands here
    std::shared_ptr<const State::Kept> kept;
  };
  // Where a node stands: by its parent, then by its tokens, so that those that begin alike are neighbours.
  struct Key {
    int32_t parent;
    std::span<const int32_t> ids;
  };
  struct Before {
    using is_transparent = void;
    const Pages* pages;
    Key key(const Key& of) const { return of; }
    Key key(int32_t node) const {
      const Node& of = pages->nodes_[static_cast<size_t>(node)];
      return {of.parent, of.ids};
    }
    bool operator()(const auto& a, const auto& b) const;
  };
  // A child, and how many tokens it begins with of those that were looked for.
  struct Nearest {
    int32_t node = root;
    int64_t same = 0;
  };
  Node& at(int32_t node) { return nodes_[static_cast<size_t>(node)]; }
  int& refs(int32_t page) { return refs_[static_cast<size_t>(page)]; }
  int32_t child(int32_t parent, std::span<const int32_t> ids) const;
  Nearest nearest(int32_t parent, std::span<const int32_t> ids) const;
  int32_t add(int32_t parent, std::span<const int32_t> ids, int32_t page);
  bool evict();
  void remove(int32_t node);

  int64_t page_rows_, idle_ = 0;
  std::vector<int> refs_;      // of each page
  std::vector<bool> in_tree_;  // of each page
  std::vector<int32_t> free_;  // pages
  std::vector<Node> nodes_;
  std::vector<int32_t> spare_;  // places in nodes_
  std::set<int32_t, Before> sorted_{Before{this}};
  uint64_t clock_ = 0;
};

}  // namespace hone
