// Options of `train` that make a mixture of experts, and that train its routers.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "cli/run_options.h"
#include "model/upcycle.h"
#include "train/trainer.h"

namespace hone::cli {

struct ExpertOptions {
  // shape
  std::optional<int64_t> experts, top_k, shared_experts, ffn;
  bool shared_gate = false;
  std::optional<std::string> layers, router;
  std::optional<double> upcycle_noise;
  // training
  std::optional<std::string> noise, temperature, balance;
  std::optional<double> z_loss, capacity_factor;

  void add(RunOptions& run);
  // What can be refused before reading anything: Error(usage). `init` and `resume`: a model is continued.
  void check(bool init, bool resume) const;

  // The name of the first option given that needs a mixture, or "".
  std::string first_option() const;
  // For a model of `count` layers. Warns once of a number of experts outside 8 to 32.
  MixtureShape shape(size_t count) const;
  // Mixtures in a new model's configuration, with --expert-ffn; Error(usage) where that cannot be.
  Config apply(Config config) const;
  // --init's model with its feed-forwards turned into experts. Error(usage) for a mixture, and for another
  // --expert-ffn.
  std::unique_ptr<Transformer> upcycled(const Transformer& dense, uint64_t seed) const;
  // Error(usage) where an option of the shape says other than the model that is continued.
  void check_same(const Config& config) const;
  // Of a run of a model with this configuration: Error(usage) for an option that it has no use for.
  RouterTraining training(const Config& config) const;

 private:
  const RunOptions* options_ = nullptr;
};

bool has_mixtures(const Config& config);
nlohmann::json describe(const RouterTraining& routing);  // all that shapes a run

}  // namespace hone::cli
