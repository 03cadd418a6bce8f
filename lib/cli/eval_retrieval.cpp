#include "cli/eval_retrieval.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "cli/eval_end.h"
#include "measure/retrieval.h"
#include "media/medium.h"
#include "model/store.h"
#include "model/verify_groups.h"
#include "report/report.h"

namespace hone::cli {
namespace {

class RetrievalEval {
 public:
  RetrievalEval(const EvalOptions& options, const Common& common) : o_(options), common_(common) {}

  int run() {
    o_.check();
    examples_ = read_examples(o_.data);
    for (const std::string& path : o_.models) one(path);
    if (common_.dry_run) return 0;
    write_report();
    return end_.status();
  }

 private:
  void one(const std::string& path) {
    Model model = load_model(path, {.defer = true});
    verify_in_groups(model);
    set_rounding(model, o_.rounding());
    const Transformer& transformer = *model.transformer;
    const Config& config = transformer.config();
    std::vector<std::string> media = config.aligned;
    if (media.empty()) {
      media = {usual_pair()[0]->name, usual_pair()[1]->name};
      log_warning("'{}' has not learned to find one by the other: train it with --contrastive", path);
    }
    for (const std::string& medium : media)
      if (transformer.encoder_of(medium) == transformer.encoders().size())
        throw usage_error("'{}' has no encoder for {}, and --retrieval needs {} and {}", path, medium, media[0],
                          media[1]);
    refuse_unmeasured(media);
    SequenceReader reader(examples_, make_tokenizer(model.tokenizer), config, o_.context.value_or(config.context), {});
    if (common_.dry_run) {
      log_info("would find {} by {} and back with '{}' in {}", media[0], media[1], path, examples_.name());
      return;
    }
    Progress progress;
    const RetrievalScores scores =
        retrieve(transformer, reader, transformer.encoder_of(media[0]), transformer.encoder_of(media[1]), o_.type(),
                 [&](int64_t done, int64_t all) {
                   progress.show(fmt::format("reading with {}: {} of {} examples", path, done, all));
                 });
    MetricValues values;
    add_retrieval(scores, media[0], media[1], values);
    Row row;
    row.set("model", path);
    for (const std::string& name : retrieval_metrics(media[0], media[1]))
      if (const auto found = values.find(name); found != values.end()) {
        if (name == "pairs")
          row.set(name, scores.pairs);
        else
          row.set(name, found->second);
      }
    report_.add(row);
    for (const auto& [name, value] : values)
      if (name.find("recall") != name.npos) report_.show(name, Display::fraction, 2);
    end_.require(path, o_.requirements(false), values);
  }

  // A requirement on classes, which are the answers of all examples that have both media.
  void refuse_unmeasured(const std::vector<std::string>& media) const {
    const bool classes = std::ranges::none_of(examples_.all, [&](const Example& example) {
      return example.has(media[0]) && example.has(media[1]) && !example.has_answer;
    });
    if (classes) return;
    for (const Requirement& requirement : o_.requirements(false))
      for (const std::string& name : requirement.metrics())
        if (name.starts_with("class_"))
          throw usage_error(
              "requirement '{}': {} is measured where all examples have an answer, and some of {} have none",
              requirement.text(), name, examples_.name());
  }

  void write_report() {
    Row& common = report_.common();
    common.set("data", examples_.name());
    end_.add_machine(common);
    end_.write(report_);
  }

  const EvalOptions& o_;
  const Common& common_;
  EvalEnd end_{o_, common_};
  Examples examples_;
  Report report_;
};

}  // namespace

int eval_retrieval(const EvalOptions& options, const Common& common) {
  return RetrievalEval(options, common).run();
}

}  // namespace hone::cli
