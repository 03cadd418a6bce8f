// What a compression did to a model: loss before and after on a text, and speed before and after.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/calibration_options.h"
#include "cli/model_files.h"
#include "compress/reference.h"
#include "compress/speedup.h"

namespace hone::cli {

struct MeasureOptions {
  std::vector<std::string> data;
  bool speed = false;

  void add(CLI::App& to);
  void check(const ModelFiles& files, const Common& common) const;  // as ModelFiles::check()
  void check_model(const Model& model) const;  // before any work: Error(usage) where it cannot be timed
};

// The loss of a model before and after: on the windows or examples of --data, else on windows of the calibration text
// that calibration leaves out, else on its own. Measures nothing where there is no text.
class LossMeasure {
 public:
  // Reads the text. `texts`: what the calibration's options gave. Error(usage) where begin() would not find memory.
  LossMeasure(const MeasureOptions& o, const CalibrationOptions& calibration, const CalibrationTexts& texts,
              const Model& model);
  bool possible() const { return text_.windows > 0; }
  const CalibrationText& text() const { return text_; }
  // Before anything of the model is changed. Keeps the hidden states of the text, f32.
  void begin(const Transformer& model);
  // Since then; Error(internal) without begin() or where it is not possible().
  const Distance& before() const;
  Distance distance(const Transformer& model) const;
  // Members of the result: losses(), which stderr says, too. An empty object where nothing was measured.
  nlohmann::json of(const Transformer& model) const {
    return possible() ? of(distance(model)) : nlohmann::json::object();
  }
  nlohmann::json of(const Distance& after) const;

 private:
  CalibrationText text_;
  DType type_;
  nlohmann::json said_;  // loss_text
  std::string words_;    // the same for people
  std::unique_ptr<Reference> reference_;
  Distance before_;
};

// What a result says of the text that a loss is of. `part`: which windows of it.
nlohmann::json loss_text(const std::string& option, const std::vector<std::string>& files, const char* part,
                         const CalibrationText& text);

// Throws Error(usage) where there is less memory than a Reference on this text takes.
void require_room_for_loss(const CalibrationText& text, const std::string& option, const Model& model);

// Members of the result: loss_before, loss, kl, accuracy_before, accuracy, and loss_text as the above gives it.
nlohmann::json losses(const Distance& before, const Distance& after, const nlohmann::json& text);

// Members of the result: prefill_ and decode_tokens_per_second, each also with _before; prefill_ and decode_speedup.
nlohmann::json speeds(const Speedup& measured);
// The same, measured of the file's model and the one that it has become where --measure-speed asks; else an empty
// object.
nlohmann::json speeds(const MeasureOptions& o, const ModelFiles& files, const Transformer& after, DType type);
// What `loss` says and these.
nlohmann::json loss_and_speeds(const LossMeasure& loss, const MeasureOptions& o, const ModelFiles& files,
                               const Transformer& after, DType type);

}  // namespace hone::cli
