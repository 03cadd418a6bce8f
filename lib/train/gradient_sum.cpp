#include "train/gradient_sum.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

// Of gradients of other ranks that wait to be added.
constexpr size_t most_received = size_t{64} << 20;

std::span<std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.raw(), tensor.bytes()};
}

}  // namespace

GradientSum::GradientSum(std::vector<OwnedParameter> parameters, Communicator& ranks) : ranks_(ranks) {
  for (const OwnedParameter& p : parameters) slots_.push_back({p, Tensor()});
}

// Messages of a batch that failed may still come, and then need their memory: the process ends soon.
GradientSum::~GradientSum() {
  if (coming_.empty()) return;
  static std::mutex mutex;  // of ranks that are threads
  static std::vector<std::vector<Coming>> lost;
  const std::lock_guard lock(mutex);
  lost.push_back(std::move(coming_));
}

std::string GradientSum::present() const {
  std::string flags;
  for (const Slot& slot : slots_) flags += slot.parameter->has_grad ? '1' : '0';
  return flags;
}

bool GradientSum::Coming::done() {
  return std::ranges::all_of(pending, [](const auto& one) { return one->done(); });
}

// `from`: a letter a rank, of those that send one.
GradientSum::Coming GradientSum::receive(size_t slot, const std::string& from) const {
  Coming coming{slot, {}, {}};
  for (size_t rank = 0; rank < from.size(); ++rank) {
    if (static_cast<int>(rank) == ranks_.rank() || from[rank] == '0') continue;
    const Tensor& gradient = coming.gradients.emplace_back(Tensor::empty(slots_[slot].parameter->value.shape()));
    coming.pending.push_back(ranks_.receive(bytes_of(gradient), static_cast<int>(rank)));
  }
  return coming;
}

void GradientSum::begin(int64_t layer) {
  const std::string all(static_cast<size_t>(ranks_.size()), '1');
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.begun || slot.layer < layer || slot.layer < 0 || !slot.parameter->trainable) continue;
    slot.begun = true;
    gradient_to_add(*slot.parameter);  // zeros, should there be none: who owns it waits for all
    if (slot.owner == ranks_.rank())
      coming_.push_back(receive(i, all));
    else
      sent_.push_back(ranks_.send(bytes_of(slot.parameter->grad), slot.owner));
  }
  for (const auto& sent : sent_) sent->done();  // moves them along
  add_arrived(most_received);
}

void GradientSum::add_arrived(size_t most_bytes) {
  const std::string all(static_cast<size_t>(ranks_.size()), '1');
  size_t bytes = 0;
  for (const Coming& coming : coming_)
    for (const Tensor& gradient : coming.gradients) bytes += gradient.bytes();
  for (auto coming = coming_.begin(); coming != coming_.end();) {
    if (bytes > most_bytes) wait(coming->pending);
    if (!coming->done()) {
      ++coming;
      continue;
    }
    for (const Tensor& gradient : coming->gradients) bytes -= gradient.bytes();
    add_in_order(slots_[coming->slot], all, coming->gradients);
    coming = coming_.erase(coming);
  }
}

void GradientSum::drop() {
  for (const Coming& coming : coming_) wait(coming.pending);
  wait(sent_);
  coming_.clear();
  sent_.clear();
  for (Slot& slot : slots_) slot.begun = false;
}

// `received`: of this slot, from the other ranks that have one, by rank.
void GradientSum::add_in_order(Slot& slot, const std::string& present, std::vector<Tensor>& received) {
  size_t next = 0;
  for (size_t rank = 0; rank < present.size(); ++rank) {
    if (present[rank] == '0') continue;
    Tensor& gradient = static_cast<int>(rank) == ranks_.rank() ? slot.parameter->grad : received[next++];
    if (slot.any)
      kernels::add(slot.sum.view(), gradient.view());
    else
      std::swap(slot.sum, gradient);  // memory changes hands, and no element is copied
    slot.any = true;
  }
}

void GradientSum::add_late(const std::vector<std::string>& present) {
  const int me = ranks_.rank();
  for (Slot& slot : slots_)
    if (!slot.begun && slot.owner != me && slot.parameter->has_grad)
      sent_.push_back(ranks_.send(bytes_of(slot.parameter->grad), slot.owner));
  for (size_t begin = 0; begin < slots_.size();) {
    std::vector<std::pair<Coming, std::string>> some;
    size_t end = begin;
    for (size_t bytes = 0; end < slots_.size() && bytes < most_received; ++end) {
      if (slots_[end].owner != me || slots_[end].begun) continue;
      std::string from;
      for (const std::string& flags : present) from += flags[end];
      some.emplace_back(receive(end, from), from);
      for (const Tensor& gradient : some.back().first.gradients) bytes += gradient.bytes();
    }
    for (auto& [coming, from] : some) {
      wait(coming.pending);
      add_in_order(slots_[coming.slot], from, coming.gradients);
    }
    begin = end;
  }
}

void GradientSum::add(const std::vector<std::string>& present) {
  add_late(present);
  add_arrived(0);
  wait(sent_);
  sent_.clear();
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.begun = false;
    slot.parameter->has_grad = false;
    for (const std::string& flags : present) slot.any = slot.any || flags[i] == '1';
  }
}

void GradientSum::finish() {
  for (Slot& slot : slots_) {
    slot.changes = slot.any;
    slot.any = false;
    if (slot.owner != ranks_.rank() || !slot.changes) continue;
    std::swap(slot.parameter->grad, slot.sum);
    slot.parameter->has_grad = true;
  }
}

void GradientSum::discard() {
  for (Slot& slot : slots_) slot.any = slot.changes = false;
}

void GradientSum::share_value(const Slot& slot, std::vector<std::unique_ptr<Pending>>& on_way) const {
  if (!slot.on(ranks_.rank())) return;
  const std::span<std::byte> value = bytes_of(slot.parameter->value);
  if (slot.column < 0) {
    on_way.push_back(ranks_.broadcast(value, slot.owner));
  } else if (slot.owner != ranks_.rank()) {
    on_way.push_back(ranks_.receive(value, slot.owner));
  } else {
    for (int rank = slot.column; rank < ranks_.size(); rank += slot.width)
      if (rank != slot.owner) on_way.push_back(ranks_.send(value, rank));
  }
}

void GradientSum::share_values() {
  if (ranks_.size() == 1) return;
  std::vector<std::unique_ptr<Pending>> on_way;
  for (const Slot& slot : slots_)
    if (slot.changes) share_value(slot, on_way);
  wait(on_way);
  for (Slot& slot : slots_) {
    if (slot.changes && slot.owner != ranks_.rank() && slot.on(ranks_.rank())) ++slot.parameter->version;
    slot.changes = false;
  }
}

}  // namespace hone
