#include "compress/calibration.h"

#include <algorithm>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/memory_limit.h"
#include "base/stop.h"
#include "kernels/rows/elementwise.h"
#include "ops/linear.h"

namespace hone {
namespace {

// Rows that go through a block together.
constexpr int64_t rows_at_once = 2048;

constexpr size_t none = ~size_t{0};

// Of what enters the last layer of half a block: as much is kept from measuring to changing, so that what comes before
// it (two thirds of the half) need not run again. Longer texts run twice.
constexpr double most_kept = 1024.0 * 1024 * 1024;

// A linear layer on the way.
struct Member {
  std::shared_ptr<Weight>* weight = nullptr;
  Parameter* bias = nullptr;
  int64_t cols = 0;
  bool expert = false;   // of a mixture, or of one kind of rows: sees only those that are routed to it
  size_t target = none;  // which target its weight is, if any
};

// Layers that are measured together, then changed together.
using Group = std::vector<Member>;

// The layers of a half of a block, those that do not see each other's outputs in one group, in the order in which they
// run. Modules show their layers in that order, but experts run side by side: their first layers are one group, their
// second ones the next.
class GroupCollector : public Visitor {
 public:
  explicit GroupCollector(const std::map<std::string, size_t>& targets) : targets_(targets) {}
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    if (!is_linear(info.role)) return;
    const auto found = targets_.find(info.name);
    const Member member = {&weight, nullptr, weight->cols(), info.expert >= 0 || info.kind >= 0,
                           found == targets_.end() ? none : found->second};
    if (info.kind > 0) {  // beside that of text, in one product
      groups.back().push_back(member);
      return;
    }
    shown_.push_back(member);
    if (experts_ == 0) close(1);
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override {  // a bias comes behind its weight
    if (info.role == Role::bias && is_linear(info.of) && experts_ == 0 && !groups.empty() && info.kind <= 0)
      groups.back().back().bias = &parameter;
  }
  void begin_experts(int64_t experts, int64_t) override { experts_ = experts; }
  void end_experts() override {
    close(shown_.size() / static_cast<size_t>(experts_));
    experts_ = 0;
  }
  std::vector<Group> groups;

 private:
  // What was shown since the last time: every `stride`-th layer together.
  void close(size_t stride) {
    for (size_t first = 0; first < stride; ++first) {
      Group& group = groups.emplace_back();
      for (size_t i = first; i < shown_.size(); i += stride) group.push_back(shown_[i]);
    }
    shown_.clear();
  }

  const std::map<std::string, size_t>& targets_;
  std::vector<Member> shown_;
  int64_t experts_ = 0;
};

// Thrown by an observer when all that is to be measured has passed: no product behind it is wanted.
struct Passed {};

// Sees the layers of one group, and those that run behind it. A run ends at the first of the latter, or at the group's
// last layer, unless that is an expert's, which may be left out.
class Observer : public InputObserver {
 public:
  // `kept`: where it is not null, rows that enter the group's last layer are copied there. `to_the_end`: what runs
  // behind the group runs too.
  Observer(const std::vector<Group>& groups, size_t measured, std::vector<std::unique_ptr<InputStatistics>>& into,
           Tensor* kept, bool to_the_end)
      : kept_(kept), to_the_end_(to_the_end) {
    const Group& group = groups[measured];
    for (size_t i = 0; i < group.size(); ++i)
      layers_[group[i].weight->get()] = {into[i].get(), i + 1 == group.size() && !group[i].expert};
    for (size_t later = measured + 1; later < groups.size(); ++later)
      for (const Member& member : groups[later]) layers_[member.weight->get()] = {nullptr, true};
  }
  void observe(const Weight& weight, kernels::ConstView x) override {
    const auto found = layers_.find(&weight);
    if (found == layers_.end()) return;
    if (found->second.into) found->second.into->add(x);
    if (!found->second.last) return;
    if (kept_) {
      *kept_ = Tensor::empty({x.rows, x.cols}, x.dtype);
      kernels::convert(x, kept_->view());
    }
    if (to_the_end_) return;
    throw Passed();
  }

 private:
  struct Layer {
    InputStatistics* into;
    bool last;
  };
  std::map<const Weight*, Layer> layers_;
  Tensor* kept_;
  bool to_the_end_;
};

Measurement measurement_of(const InputStatistics& inputs, bool dampens) {
  Measurement measured{&inputs, inputs.tokens()};
  measured.dampened = dampens && inputs.tokens() > 0 && inputs.tokens() < inputs.cols();
  measured.data_free = !inputs.sufficient() && !measured.dampened;
  if (measured.data_free) measured.inputs = nullptr;
  return measured;
}

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::equal(a.raw(), a.raw() + a.bytes(), b.raw());
}

bool same(const Stream& a, const Stream& b) {
  return a.branch && b.branch && same(a.residual.value(), b.residual.value()) &&
         same(a.branch.value(), b.branch.value()) && a.terms.size() == b.terms.size();
}

// What the text passes in one run: a block or one of its halves.
struct Stage {
  size_t block = 0;
  bool mixes = false, feeds = false;
  std::vector<Group> groups;  // in the order in which they run
};

class Walk {
 public:
  Walk(Transformer& model, std::span<const CalibrationTarget> targets, MeasuredBehind behind,
       const CalibrationText* text, DType type, const std::function<void(size_t, const Measurement&)>& change)
      : model_(model), targets_(targets), text_(text), type_(type), change_(change), left_(targets.size(), true) {
    std::map<std::string, size_t> by_name;
    for (size_t i = 0; i < targets.size(); ++i) by_name[targets[i].name] = i;
    for (size_t b = 0; b < model.blocks().size(); ++b) {
      GroupCollector mixing(by_name), feeding(by_name);
      const Block& block = model.blocks()[b];
      const Place place = Transformer::place_of_block(static_cast<int64_t>(b));
      if (block.mixer) block.mixer->visit(place.in(block.mixer->place()), mixing);
      if (block.feed_forward) block.feed_forward->visit(place.in("feed_forward"), feeding);
      if (behind == MeasuredBehind::layers && block.router) {  // which runs as a whole
        for (Group& group : feeding.groups) mixing.groups.push_back(std::move(group));
        stages_.push_back({b, true, true, std::move(mixing.groups)});
      } else if (behind == MeasuredBehind::layers) {
        stages_.push_back({b, true, false, std::move(mixing.groups)});
        stages_.push_back({b, false, true, std::move(feeding.groups)});
      } else {
        Group all;
        for (const auto& groups : {mixing.groups, feeding.groups})
          for (const Group& group : groups) all.insert(all.end(), group.begin(), group.end());
        stages_.push_back({b, true, true, {std::move(all)}});
      }
    }
    const auto head = by_name.find(model.head_name());
    if (head != by_name.end()) head_ = head->second;
    for (size_t s = 0; s < stages_.size(); ++s)
      for (const Group& group : stages_[s].groups)
        if (measures(group)) measured_until_ = s + 1;
    if (measures(head_)) measured_until_ = stages_.size() + 1;
  }

  void check() const {
    if (!text_) return;
    for (const int32_t id : text_->ids)
      if (id < 0 || id >= model_.config().vocabulary)
        throw input_error("the calibration text has token {}, outside the model's vocabulary of {}", id,
                          model_.config().vocabulary);
    double most = measures(head_) ? bytes({nullptr, nullptr, model_.config().block.dim, false, head_}) : 0;
    for (const Stage& stage : stages_)
      for (const Group& group : stage.groups) {
        double sum = 0;
        for (const Member& member : group) sum += bytes(member);
        if (may_keep(stage, group)) sum += bytes_entering(group);
        most = std::max(most, sum);
      }
    require_memory(most, "what is measured of the inputs of layers", "use another method or a smaller model");
  }

  void run(const std::function<void(int64_t, int64_t)>& progress) {
    const NoTape pause;
    if (measured_until_ > 0) embed();
    const int64_t all = static_cast<int64_t>(model_.blocks().size()) + 1;
    for (size_t s = 0; s < stages_.size(); ++s) {
      const Stage& stage = stages_[s];
      for (size_t g = 0; g < stage.groups.size(); ++g) change_group(stage, g);
      if (s + 1 < measured_until_) advance(stage);
      if (progress && stage.feeds) progress(static_cast<int64_t>(stage.block) + 1, all);
    }
    change_head();
    for (size_t i = 0; i < targets_.size(); ++i)
      if (left_[i]) change(i, {});
    if (progress) progress(all, all);
  }

 private:
  // Some windows on their way through the model.
  struct Part {
    Call call;
    Stream stream;
    Tensor kept;  // what enters the last layer of the stage that is being changed; none: it has to run again
  };

  bool measures(size_t target) const { return text_ && target != none && !targets_[target].needs.empty(); }
  bool measures(const Group& group) const {
    return std::any_of(group.begin(), group.end(), [&](const Member& member) { return measures(member.target); });
  }

  double bytes(const Member& member) const {
    double sum = 0;
    if (measures(member.target))
      for (const StatisticKind& kind : targets_[member.target].needs) sum += kind.bytes(member.cols);
    return sum;
  }

  void embed() {
    if (!text_->examples.empty()) return embed_examples();
    const int64_t most = std::max<int64_t>(1, rows_at_once / text_->length);
    for (int64_t first = 0; first < text_->windows; first += most) {
      const int64_t count = std::min(most, text_->windows - first);
      Part part{model_.call(Batch::whole(count, text_->length), type_), {}, {}};
      const auto ids =
          std::span(text_->ids)
              .subspan(static_cast<size_t>(first * text_->length), static_cast<size_t>(count * text_->length));
      part.stream = model_.embed(ids, part.call);
      parts_.push_back(std::move(part));
    }
  }

  void embed_examples() {
    for (size_t next = 0; next < text_->examples.size();) {
      JoinedInput rows;
      std::vector<Span> spans;
      for (int64_t size = 0; next < text_->examples.size() && size < rows_at_once; ++next) {
        const Sequence& example = text_->examples[next];
        spans.push_back({static_cast<int64_t>(spans.size()), 0, example.size()});
        rows.add(example.input());
        size += example.size();
      }
      Part part{model_.call(rows.input(), std::move(spans), type_), {}, {}};
      part.stream = model_.embed(rows.input(), part.call);
      parts_.push_back(std::move(part));
    }
  }

  Stream pass(const Stage& stage, const Part& part) {
    check_stop();
    const Block& block = model_.blocks()[stage.block];
    const auto layer = static_cast<int64_t>(stage.block);
    if (stage.mixes && stage.feeds) return block.forward(part.stream, part.call, layer, nullptr);
    const Stream mixed = stage.mixes ? block.mix(part.stream, part.call, layer, nullptr) : part.stream;
    return stage.feeds ? block.feed(mixed, part.call, layer) : mixed;
  }

  void advance(const Stage& stage) {
    for (Part& part : parts_) {
      part.stream = part.kept ? end_of(stage, part) : pass(stage, part);
      part.kept = {};
    }
  }

  // What pass() would give, of what was kept, if all that the half of the block does behind its last layer is nothing.
  Stream end_of(const Stage& stage, const Part& part) const {
    const Block& block = model_.blocks()[stage.block];
    const Norm& norm = stage.mixes ? block.mixer_norm : block.feed_forward_norm;
    const Member& last = stage.groups.back().front();
    return {norm.forward(part.stream.residual, part.stream.branch, type_).residual,
            ops::linear(Var(part.kept), *last.weight, last.bias), part.stream.terms};
  }

  // Whether it may be kept what enters the group: one layer, the last of half a block, and the text goes on behind it.
  bool may_keep(const Stage& stage, const Group& group) const {
    const bool goes_on = static_cast<size_t>(&stage - stages_.data()) + 1 < measured_until_;
    return goes_on && &group == &stage.groups.back() && group.size() == 1 && !group.front().expert && measures(group) &&
           stage.mixes != stage.feeds && bytes_entering(group) <= most_kept;
  }

  double bytes_entering(const Group& group) const {
    return static_cast<double>(text_->windows * text_->length) * static_cast<double>(group.front().cols) *
           static_cast<double>(size_of(type_));
  }

  std::vector<std::unique_ptr<InputStatistics>> measure(const Stage& stage, size_t group) {
    std::vector<std::unique_ptr<InputStatistics>> measured;
    for (const Member& member : stage.groups[group])
      measured.push_back(measures(member.target) ? std::make_unique<InputStatistics>(targets_[member.target].needs,
                                                                                     member.cols, member.expert)
                                                 : nullptr);
    // What half a block does is not known here. So the first part runs to its end, and others are kept if what was kept
    // of the first gives that end, bit for bit.
    bool keep = may_keep(stage, stage.groups[group]);
    for (Part& part : parts_) {
      const bool first = keep && &part == &parts_.front();
      Observer observer(stage.groups, group, measured, keep ? &part.kept : nullptr, first);
      part.call.trace.inputs = &observer;
      try {
        const Stream end = pass(stage, part);
        if (first && !same(end, end_of(stage, part))) {
          keep = false;
          part.kept = {};
        }
      } catch (const Passed&) {
      }
      part.call.trace.inputs = nullptr;
    }
    return measured;
  }

  void change_group(const Stage& stage, size_t group) {
    const Group& members = stage.groups[group];
    std::vector<std::unique_ptr<InputStatistics>> measured(members.size());
    if (measures(members)) measured = measure(stage, group);
    for (size_t i = 0; i < members.size(); ++i)
      if (members[i].target != none)
        change(members[i].target,
               measured[i] ? measurement_of(*measured[i], targets_[members[i].target].dampens) : Measurement());
  }

  void change_head() {
    if (head_ == none) return;
    if (!measures(head_)) return change(head_, {});
    InputStatistics inputs(targets_[head_].needs, model_.config().block.dim, false);
    for (Part& part : parts_) {
      check_stop();
      inputs.add(model_.finish(part.stream, part.call).value().view());
    }
    change(head_, measurement_of(inputs, targets_[head_].dampens));
  }

  void change(size_t target, const Measurement& measured) {
    change_(target, measured);
    left_[target] = false;
  }

  Transformer& model_;
  std::span<const CalibrationTarget> targets_;
  const CalibrationText* text_;
  DType type_;
  const std::function<void(size_t, const Measurement&)>& change_;
  std::vector<bool> left_;  // targets that are still to be changed
  std::vector<Stage> stages_;
  size_t head_ = none;         // which target the head is
  size_t measured_until_ = 0;  // stages that the text has to reach: behind the last in which something is measured
  std::vector<Part> parts_;
};

}  // namespace

Tensor sum_of_stream(const Stream& stream) {
  Tensor sum = stream.residual.value().clone();
  if (stream.branch) {
    const Tensor branch = stream.branch.value().to(DType::f32);
    std::transform(sum.data<float>(), sum.data<float>() + sum.size(), branch.data<float>(), sum.data<float>(),
                   std::plus<>());
  }
  return sum;
}

void calibrate(Transformer& model, std::span<const CalibrationTarget> targets, MeasuredBehind behind,
               const CalibrationText* text, DType type, const std::function<void(size_t, const Measurement&)>& change,
               const std::function<void(int64_t, int64_t)>& progress) {
  Walk walk(model, targets, behind, text, type, change);
  walk.check();
  walk.run(progress);
}

}  // namespace hone
