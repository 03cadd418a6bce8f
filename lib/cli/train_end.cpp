#include "cli/train_end.h"

#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "cli/model_files.h"
#include "model/size.h"
#include "nn/mixer.h"

namespace hone::cli {

int TrainEnd::finish(const RunResult& result, Journal& journal, QuantizeAware* rounding) {
  nlohmann::json results = {{"steps", result.steps}, {"tokens", result.tokens}, {"loss", result.loss}};
  if (!o_.curriculum.empty()) results["curriculum"] = o_.curriculum;
  if (o_.shuffle != "windows") results["shuffle"] = o_.shuffle;
  if (result.valid_loss) results["valid_loss"] = *result.valid_loss;
  if (o_.keep == "best") results["kept_step"] = result.kept_step;
  rate_ = result.tokens_per_second;
  if (result.signal && result.checkpoint_saved) {
    log_warning("stopped by signal {} after step {}; continue with --resume {}", result.signal, result.steps,
                o_.checkpoint);
  } else {
    if (result.signal) results["stopped_by_signal"] = result.signal;
    save(results, rounding);
    if (result.signal)
      log_warning("stopped by signal {} after step {}; '{}' holds the parameters of step {}", result.signal,
                  result.steps, saved_at_, result.kept_step);
  }
  journal.finish();
  if (result.signal) return 128 + result.signal;
  LateTexts late(o_.force);
  late.lacks("--log", journal.log_missing());
  late.lacks("--plot", journal.plot_missing());
  late.lacks("--checkpoint", result.checkpoint_missing);
  return status(late);
}

int TrainEnd::finish_untrained() {
  if (!common_.dry_run) save(nlohmann::json::object(), nullptr);
  LateTexts late(o_.force);
  return status(late);
}

int TrainEnd::status(LateTexts& late) const {
  if (!saved_at_.empty()) late.saved(o_.output, saved_at_);
  return late.status();
}

void TrainEnd::save(const nlohmann::json& results, QuantizeAware* rounding) {
  agree(*common_.ranks, [&] {
    if (grid_.copies->rank() == 0) write(results, rounding);  // on all that have parts of what is written
  });
}

void TrainEnd::write(nlohmann::json results, QuantizeAware* rounding) {
  const StopLater save_first;
  if (rounding) rounding->finish();
  if (!start_.upcycled().is_null()) results["upcycled"] = start_.upcycled();
  Model& model = start_.model();
  nlohmann::json recorded = results;
  if (rounding) recorded["quantize_aware"] = o_.quantize_aware;
  if (const nlohmann::json teacher = teacher_.lineage(); !teacher.is_null()) recorded["teacher"] = teacher;
  if (!start_.attention_before().empty()) {
    recorded["attention"] = attention_of(model.transformer->config());
    recorded["attention_before"] = start_.attention_before();
  }
  const Stage stage = {"train", start_.parent(), recorded};
  const WrittenFile written = save_stage(model, stage, o_.output, o_.force, common_);
  saved_at_ = written.path;
  if (rate_ > 0) results["train_tokens_per_second"] = rate_;
  print_result(describe_written(written, size_of(*model.transformer), results, o_.format == "json"));
}

}  // namespace hone::cli
