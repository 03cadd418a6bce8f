// Kinds of structures that a model can do without: each is a row of the table in structure.cpp and a file here, with
// functions that count what goes, choose it and cut it out.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "compress/calibration.h"
#include "compress/reference.h"
#include "compress/structures/amount.h"
#include "compress/units.h"
#include "model/rebuild.h"

namespace hone {

struct StructuredLayer;

// A model on its way to a smaller one.
struct Thinning {
  Transformer* model;                    // as it is now
  std::vector<int64_t> from;             // its layers in the old model
  std::unique_ptr<Transformer> owned;    // that model, once it is another than the old one
  std::vector<StructuredLayer>& layers;  // of the old model
  const CalibrationText& text;
  DType type;  // of activations in calibration
  const std::function<void(const std::string& what, int64_t done, int64_t all)>& progress;  // may be empty
  std::unique_ptr<Reference> reference = nullptr;  // what the old model predicts: made by the first who asks

  void keep(const std::vector<KeptLayer>& layers);  // only these
};

// A linear layer with its names and bias: what is refitted.
struct Projection {
  std::string name;
  std::shared_ptr<Weight>* weight = nullptr;
  Parameter* bias = nullptr;
  Role role = Role::down;
  int64_t layer = 0, expert = -1;
  bool shared = false;
};

// Structures that are columns of a projection back into the stream.
struct ColumnStructure {
  bool (*of)(Role role);  // whether they are columns of such a projection
  // How many of its units go where `count` of the layer do.
  int64_t (*count)(const Projection& projection, const LayerBlueprint& layer, int64_t count);
  int64_t (*width)(const BlockBlueprint& block);  // columns of a unit
  UnitChoice (*choose)(const Tensor& weight, const InputMoments& moments, const LayerBlueprint& layer, int64_t count);
  void (*keep)(KeptLayer& kept, const Projection& projection, const LayerBlueprint& layer, const UnitChoice& choice);
};

// A size of layers that reports have.
struct LayerSize {
  std::string_view column;  // "heads"; beside it "heads_before"
  std::string_view words;   // "heads", in the lineage
  int64_t LayerBlueprint::*of;
};

// How the search for a speed-up takes them: behind so many of its steps, so many percent of each layer's more with
// each.
struct SpeedupSteps {
  int behind = 0;
  double percent = 0;  // 0: never
};

struct StructureKind {
  std::string_view name;  // "heads"
  std::string_view what;  // "heads of each layer"
  // How many go: of each layer, 0 where it has none; of a structure of the whole model one number. `multiple`: as
  // Structure::multiple. Throws Error(usage), naming the most or the least that can go.
  std::vector<int64_t> (*count)(const Amount& amount, const Config& config, int64_t multiple);
  // What a layer without so many is: where nothing is said of which ones. Null of structures of the whole model.
  void (*narrow)(LayerBlueprint& layer, int64_t count);
  // Chooses and cuts. One of both: first all that take, in the order of the table, then all columns in one pass through
  // the model as it has become.
  void (*take)(Thinning& model, const std::vector<int64_t>& count);
  const ColumnStructure* columns;
  std::string_view error;  // what reports call the error that a refit leaves, "head_error"; empty: there is none
  int halves = 0;          // of a layer that one of them takes out: 1 the mixer, 2 the feed-forward, 3 both
  std::span<const LayerSize> sizes = {};  // that become smaller where a layer stays
  bool rounds = false;                    // count() looks at `multiple`
  // What take() holds beside one walk of so many tokens through the model and moments of what enters projections; null:
  // nothing to speak of.
  double (*bytes)(const Config& config, int64_t tokens) = nullptr;
  SpeedupSteps speedup = {};
};

}  // namespace hone
