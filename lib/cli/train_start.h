// What a run of train begins with: a new model, one of a file, or the checkpoint of a run that goes on.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/train_options.h"
#include "dataset/reader.h"
#include "io/model_file.h"
#include "model/store.h"

namespace hone::cli {

class TrainStart {
 public:
  // `grid`: of the ranks that run the tool together.
  TrainStart(const TrainOptions& options, const Common& common, const RankGrid& grid)
      : o_(options), common_(common), grid_(grid) {}

  // The model of --init or --resume, where one is given; a mixture of it with --experts. Error(usage) where the options
  // differ from the checkpoint's, Error(input) for what is no such file.
  void load();
  // A new one, where none was loaded: its tokenizer is trained on these texts if it is of a kind that is.
  void create(const std::vector<TextSource>& sources);
  // Gives the model the kinds of attention, exits and routers of depth that are asked for. Error(usage) where those of
  // the checkpoint are others.
  void adapt();

  bool has_model() const { return model_.transformer != nullptr; }
  Model& model() { return model_; }
  const Model& model() const { return model_; }
  const ModelFile* resumed() const { return o_.resume.empty() ? nullptr : &checkpoint_; }  // null: a new run
  // What the run that is resumed was; null where none is.
  nlohmann::json description_of_checkpoint() const;

  void describe(RunSettings& settings) const;            // in the description of the run
  const std::string& parent() const { return parent_; }  // sha256 of the file that the run began with, or ""
  const std::string& attention_before() const { return attention_before_; }  // of a model that changed its kinds
  // For the lineage; null where no dense model was turned into a mixture.
  const nlohmann::json& upcycled() const { return upcycled_; }

 private:
  std::optional<ShapesOnly> shapes_of_dry_run() const;
  std::string sha256_of_start(const std::string& path) const;
  void upcycle();
  std::string of_run(const char* name) const;
  void adapt_attention();
  void adapt_exits();
  void adapt_depth_routers();
  void check_shape() const;

  const TrainOptions& o_;
  const Common& common_;
  const RankGrid& grid_;
  Model model_;
  ModelFile checkpoint_;
  std::string parent_, attention_before_;
  nlohmann::json upcycled_;
};

}  // namespace hone::cli
