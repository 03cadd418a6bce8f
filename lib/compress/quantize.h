// Quantizing a model: every chosen weight becomes a packed one.
#pragma once

#include <functional>
#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "compress/calibration.h"
#include "compress/methods/round_method.h"
#include "compress/preparation.h"
#include "compress/prune.h"
#include "compress/quantize_matrix.h"
#include "compress/targets.h"

namespace hone {

// The element that a weight gets; none: it stays as it is, which is called "keep".
using PackedType = std::optional<kernels::PackedElement>;
const std::vector<std::string>& packed_type_names();    // those of the table of elements, and "keep"
PackedType packed_type_named(const std::string& name);  // Error(usage) listing the names
std::string name_of(PackedType type);
bool has_scales(PackedType type);

class AlreadyQuantized : public Error {
 public:
  using Error::Error;
};

struct QuantizeSettings {
  PackedType type = QuantizeOptions().element;  // of linear layers
  PackedType embedding = type;                  // of embedding and head
  int64_t group = 0;                            // of types with scales: 32, 64, 128, or 0: a scale for each row
  std::vector<std::pair<std::regex, PackedType>> overrides;  // the first that is found in a name decides
  std::vector<LayerType> layer_types;                        // of these weights, before all that is said above
  bool allow_requantize = false;
  const RoundMethod* method = &round_method("search");  // to types with scales; to others the nearest number is taken
  std::optional<double> number = {};                    // of the method, in place of its usual one
  const CalibrationText* calibration = nullptr;         // null: every method goes on as if all inputs were alike
  DType activations = DType::f32;
  std::optional<PruneSettings> prune = {};       // how layer_types that have a sparsity get it, behind what prepares
  std::vector<const Preparation*> prepare = {};  // before all, in this order; takes a calibration
  // Called with each weight that is done; what it returns takes the weight's place. WeightSpill::put(), for one.
  std::function<std::shared_ptr<Weight>(std::shared_ptr<Weight>)> keep;
  std::function<void(int64_t done, int64_t all)> progress;
};

struct QuantizedLayer {
  std::string name;
  PackedType type;
  std::string form;  // as stored: "panels", "bitmask"
  int64_t group = 0;
  double sparsity = 0;        // of its mask
  double relative_error = 0;  // squared, weighted as the method does; of rounding alone
  int64_t bytes_before = 0, bytes = 0;
  std::optional<int64_t> calibration_tokens;  // that entered the layer, where there was a text
  bool data_free = false;                     // too few of them: rounded as if all inputs were alike
  bool dampened = false;                      // fewer than inputs: what they cannot tell is dampened
  std::map<std::string, double> prepared;     // where it was tried: the number of each preparation, by its name
};

// Layers come back in the order of the model: blocks, head, embedding. Throws Error(usage) when nothing is chosen,
// AlreadyQuantized (usage) for a weight that is quantized already, unless allowed; nothing is changed then. Throws as
// calibrate() does.
std::vector<QuantizedLayer> quantize_model(Transformer& model, const QuantizeSettings& settings);

// The names of the weights that quantize_model() would quantize; throws as it does.
std::vector<std::string> weights_to_quantize(const Transformer& model, const QuantizeSettings& settings);

// What quantize_model() does to one weight, for who compares ways to do it.
//
// What has to be measured for that; `pruned`: by settings.prune as well.
CalibrationTarget rounding_target(const std::string& name, PackedType type, bool pruned,
                                  const QuantizeSettings& settings);
// A weight as settings.prune makes it at layer.sparsity; the same one where that is 0.
std::shared_ptr<Weight> pruned_weight(const LayerType& layer, std::shared_ptr<Weight> weight,
                                      const QuantizeSettings& settings, const Measurement& measured);
// `dense` f32 [rows, cols], with its mask, in layer.element.
struct PackedRounding {
  std::shared_ptr<Weight> weight;
  double relative_error = 0;  // as QuantizedLayer's
};
PackedRounding rounded_weight(const LayerType& layer, const Tensor& dense, const Bitmask& mask,
                              const QuantizeSettings& settings, const Measurement& measured);

}  // namespace hone
