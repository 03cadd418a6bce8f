#include "tensor/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <new>

#include "tensor/poison.h"

namespace hone {
namespace {

constexpr size_t line = 64;

size_t whole_pages(size_t bytes) {
  return (bytes + huge_page - 1) / huge_page * huge_page;
}

void* mapped(void* where, size_t bytes) {
  return mmap(where, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

// Where a range of `bytes` may become long, beside so many that are held: the lowest address of a gap that the system
// finds for many times as much. Others are given addresses from its upper end. Emulators of processors may keep a
// record of each page, also of a gap: so it is no longer than it may be of use.
std::byte* start_of_gap(size_t bytes, size_t held) {
  for (size_t length = std::max(size_t{4} << 30, 16 * (bytes + held)); length > 2 * bytes; length /= 2) {
    void* const gap = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (gap == MAP_FAILED) continue;
    munmap(gap, length);
    return reinterpret_cast<std::byte*>(whole_pages(reinterpret_cast<size_t>(gap)));
  }
  return nullptr;
}

// Address space at `where` or, if something is there, wherever it begins with a whole page.
std::byte* address_space(std::byte* where, size_t bytes) {
  void* data = mapped(where, bytes);
  if (data == MAP_FAILED) throw std::bad_alloc();
  if (reinterpret_cast<uintptr_t>(data) % huge_page) {
    munmap(data, bytes);
    data = mapped(nullptr, bytes + huge_page);
    if (data == MAP_FAILED) throw std::bad_alloc();
    const size_t before = whole_pages(reinterpret_cast<size_t>(data)) - reinterpret_cast<size_t>(data);
    if (before) munmap(data, before);
    data = static_cast<std::byte*>(data) + before;
    munmap(static_cast<std::byte*>(data) + bytes, huge_page - before);
  }
  madvise(data, bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(data);
}

}  // namespace

Arena::~Arena() {
  for (const Range& range : ranges_) {
    if (range.held.empty()) continue;
    unpoison(range.begin, range.held.size() * huge_page);
    munmap(range.begin, range.held.size() * huge_page);
  }
}

// Sizes up to 8 lines have a class each; above, a class begins at every eighth of an octave.
size_t Arena::class_of(size_t bytes) {
  const size_t lines = bytes / line;
  if (lines < steps) return lines;
  const auto octave = static_cast<size_t>(std::bit_width(lines)) - 4;  // 0: 8 to 15 lines
  return steps * octave + (lines >> octave);
}

Extent* Arena::of_class(size_t index, size_t bytes) const {
  Extent* best = nullptr;
  int seen = 0;
  for (Extent* one = first_[index]; one && seen < 32; one = one->behind, ++seen)
    if (one->bytes >= bytes && (!best || one->data < best->data)) best = one;
  return best;
}

// Of the smallest class that has one: the lowest, so that the highest pages are those that nobody uses.
Extent* Arena::found(size_t bytes) const {
  const size_t own = class_of(bytes);
  if (Extent* const fits = of_class(own, bytes)) return fits;
  uint64_t left = own % 64 == 63 ? 0 : some_[own / 64] & ~uint64_t{0} << (own % 64 + 1);
  for (size_t word = own / 64;; left = some_[word]) {
    if (left) return of_class(word * 64 + static_cast<size_t>(std::countr_zero(left)), bytes);
    if (++word == some_.size()) return nullptr;
  }
}

Extent* Arena::take(size_t bytes) {
  Extent* extent = found(bytes);
  if (!extent) extent = grown(bytes);
  unlist(extent);
  if (extent->bytes > bytes) {
    list(added(extent->range, extent->data + bytes, extent->bytes - bytes, extent));
    extent->bytes = bytes;
  }
  hold(*extent);
  return extent;
}

const Extent& Arena::give(Extent* extent) {
  poison(extent->data, extent->bytes);
  if (extent->above && extent->above->free) {
    unlist(extent->above);
    join_above(extent);
  }
  if (extent->below && extent->below->free) {
    extent = extent->below;
    unlist(extent);
    join_above(extent);
  }
  list(extent);
  return *extent;
}

// A free extent of so many bytes or more, at the end of the last range or of a new one.
Extent* Arena::grown(size_t bytes) {
  if (!ranges_.empty() && ranges_.back().last) {
    Range& range = ranges_.back();
    Extent* last = range.last;
    if (last->free && last->bytes >= bytes) return last;  // behind those of its class that of_class() looks at
    const size_t more = whole_pages(bytes - (last->free ? last->bytes : 0));
    std::byte* const end = range.end();
    std::byte* const data = address_space(end, more);
    if (data == end) {
      poison(data, more);
      range.held.resize(range.held.size() + more / huge_page);
      Extent* fresh = added(ranges_.size() - 1, data, more, last);
      if (last->free) {
        unlist(last);
        join_above(last);
        fresh = last;
      }
      list(fresh);
      return fresh;
    }
    munmap(data, more);
  }
  const size_t all = whole_pages(bytes);
  std::byte* const data = address_space(start_of_gap(all, held_), all);
  poison(data, all);
  ranges_.push_back({data, std::vector<uint8_t>(all / huge_page), nullptr});
  Extent* const fresh = added(ranges_.size() - 1, data, all, nullptr);
  list(fresh);
  return fresh;
}

// Between `below` and what is above that; in no list.
Extent* Arena::added(size_t range, std::byte* data, size_t bytes, Extent* below) {
  Extent* extent = unused_;
  if (extent)
    unused_ = extent->behind;
  else
    extent = &extents_.emplace_back();
  Extent* const above = below ? below->above : nullptr;
  *extent = {data, bytes, range, below, above, nullptr, nullptr, false};
  if (below) below->above = extent;
  if (above)
    above->below = extent;
  else
    ranges_[range].last = extent;
  return extent;
}

void Arena::hold(const Extent& extent) {
  Range& range = ranges_[extent.range];
  const auto begin = static_cast<size_t>(extent.data - range.begin);
  size_t fresh = 0;
  for (size_t page = begin / huge_page; page <= (begin + extent.bytes - 1) / huge_page; ++page)
    if (!range.held[page]) {
      range.held[page] = 1;
      fresh += huge_page;
    }
  if (fresh) ++growths_;
  held_ += fresh;
}

void Arena::list(Extent* extent) {
  const size_t index = class_of(extent->bytes);
  Extent*& first = first_[index];
  extent->free = true;
  extent->before = nullptr;
  extent->behind = first;
  if (first) first->before = extent;
  first = extent;
  some_[index / 64] |= uint64_t{1} << index % 64;
}

void Arena::unlist(Extent* extent) {
  const size_t index = class_of(extent->bytes);
  extent->free = false;
  if (extent->behind) extent->behind->before = extent->before;
  if (extent->before)
    extent->before->behind = extent->behind;
  else if (!(first_[index] = extent->behind))
    some_[index / 64] &= ~(uint64_t{1} << index % 64);
}

void Arena::join_above(Extent* extent) {
  Extent* const above = extent->above;
  extent->bytes += above->bytes;
  forget(above);
}

void Arena::forget(Extent* extent) {
  if (extent->below) extent->below->above = extent->above;
  if (extent->above)
    extent->above->below = extent->below;
  else
    ranges_[extent->range].last = extent->below;
  extent->behind = unused_;
  unused_ = extent;
}

void Arena::trim(size_t most_held) {
  for (size_t r = ranges_.size(); r-- > 0 && held_ > most_held;) {
    for (const Extent* extent = ranges_[r].last; extent && held_ > most_held; extent = extent->below)
      if (extent->free) let_go(ranges_[r], *extent, most_held);
    shorten(ranges_[r]);
  }
  while (!ranges_.empty() && !ranges_.back().last) ranges_.pop_back();
}

// Of a free extent: its whole pages, from the last on.
void Arena::let_go(Range& range, const Extent& extent, size_t most_held) {
  const auto begin = static_cast<size_t>(extent.data - range.begin);
  const size_t first = whole_pages(begin) / huge_page;
  size_t end = (begin + extent.bytes) / huge_page;
  while (end > first && held_ > most_held) {
    size_t page = end;
    for (; page > first && range.held[page - 1] && held_ > most_held; --page) {
      range.held[page - 1] = 0;
      held_ -= huge_page;
    }
    if (page < end) madvise(range.begin + page * huge_page, (end - page) * huge_page, MADV_DONTNEED);
    end = page < end ? page : end - 1;
  }
}

// Address space at the end of a range that has no pages.
void Arena::shorten(Range& range) {
  Extent* const last = range.last;
  if (!last || !last->free) return;
  size_t pages = range.held.size();
  const size_t first = whole_pages(static_cast<size_t>(last->data - range.begin)) / huge_page;
  while (pages > first && !range.held[pages - 1]) --pages;
  std::byte* const end = range.begin + pages * huge_page;
  const auto bytes = static_cast<size_t>(range.end() - end);
  if (!bytes) return;
  unpoison(end, bytes);
  munmap(end, bytes);
  range.held.resize(pages);
  unlist(last);
  last->bytes -= bytes;
  if (last->bytes)
    list(last);
  else
    forget(last);
}

}  // namespace hone
