// What carries out an engine's plans: the model with its cache, or a clock that knows what its calls would take.
#pragma once

#include <span>
#include <vector>

#include "kernels/parallel.h"
#include "model/transformer.h"

namespace hone {

struct EngineSettings;

class Executor {
 public:
  virtual ~Executor() = default;
  virtual const Config& config() const = 0;
  // Pages, and what else is remembered of sequences; without layers where nothing is computed.
  virtual State& state() = 0;
  virtual bool keeps() const = 0;  // State::keeps() of the model's layers
  // Whether one call may have prompts beside steps: no product asks how many rows there are.
  virtual bool mixes() const = 0;

  virtual double now() const = 0;               // seconds, by the clock by which calls take their time
  virtual void wait_until(double seconds) = 0;  // or until a stop is wanted

  // One call of the model: hidden states, [rows, dim]. Nothing where nothing is computed: then any token will do.
  virtual Tensor read(std::vector<Span> spans, const Input& rows, Phase phase) = 0;
  virtual Tensor logits(const Tensor& hidden, Phase phase) = 0;  // f32 [rows, vocabulary]
};

// The model itself, by the machine's clock.
class ModelExecutor : public Executor {
 public:
  // `settings` are complete(). Throws Error(usage) where their cache does not fit into memory.
  ModelExecutor(const Transformer& model, const EngineSettings& settings);

  const Config& config() const override { return model_.config(); }
  State& state() override { return state_; }
  bool keeps() const override { return state_.keeps(); }
  bool mixes() const override { return mixes_; }
  double now() const override;
  void wait_until(double seconds) override;
  Tensor read(std::vector<Span> spans, const Input& rows, Phase phase) override;
  Tensor logits(const Tensor& hidden, Phase phase) override;

 private:
  const Transformer& model_;
  DType type_;
  State state_;
  bool mixes_;
};

// Of a cache for an engine's texts.
StateShape state_shape(const EngineSettings& settings);

// How many pages a cache of these settings may have for it to take this share of the memory that is left: at least one.
// With a capacity of 0, a text may have all of them.
int64_t pages_in_memory(const Config& config, EngineSettings settings, double share);

}  // namespace hone
