#include "compress/structured.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "compress/reference.h"
#include "compress/rotation.h"
#include "lib/compress/models.h"
#include "model/rebuild.h"
#include "support/check.h"
#include "weights/dense_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

StructuredModel pruned(Transformer& model, const std::string& structure, const CalibrationText& text) {
  StructureSettings settings;
  Structure wanted = parse_structure(structure);
  wanted.multiple = 8;
  settings.counts = structure_counts(wanted, model.config());
  settings.calibration = &text;
  return prune_structures(model, settings);
}

std::string refusal(const std::string& structure, const Config& config = small_config()) {
  return failure([&] { structure_counts(parse_structure(structure), config); });
}

double distance(const Transformer& a, const Transformer& b, const CalibrationText& text) {
  return Reference(a, text, DType::f32).distance(b).kl;
}

}  // namespace

TEST_CASE("structures in numbers: parts are rounded to whole groups and multiples, counts are not") {
  Config config = small_config();  // layers of 4 heads in 2 groups and 96 units; 2 heads and 64 units
  Structure s = parse_structure("neurons:40%,heads:50%");
  StructureCounts counts = structure_counts(s, config);
  CHECK(counts_of(counts, "neurons") == std::vector<int64_t>{32, 32});
  CHECK(counts_of(counts, "heads") == std::vector<int64_t>{2, 1});
  CHECK(counts_of(structure_counts(parse_structure("neurons:7"), config), "neurons") == std::vector<int64_t>{7, 7});
  CHECK(counts_of(structure_counts(parse_structure("layers:50%"), config), "layers") == std::vector<int64_t>{1});
  counts = structure_counts(parse_structure("heads:50%,neurons:10"), mixture_config());
  CHECK(narrowed(mixture_config(), counts).layers[0].ffn == mixture_config().layers[0].ffn - 10);
  config.layers[0].heads = 6;
  CHECK(removable_heads(config.layers[0]) == std::vector<int64_t>{2, 3, 4});
  config.layers[0].score = "alibi";
  CHECK(removable_heads(config.layers[0]).empty());
  CHECK(refusal("heads:50%", config).find("'alibi' gives each of layer 0's heads a score of its own") !=
        std::string::npos);
  CHECK(counts_of(structure_counts(parse_structure("attentions:1"), config), "attentions").front() == 1);
}

TEST_CASE("structures that leave nothing, remove nothing, or do not exist are refused") {
  CHECK(refusal("heads:100%").starts_with("2 structure 'heads:100%' would leave nothing of the 4 of layer 0's heads"));
  CHECK(refusal("heads:2").starts_with("2 structure 'heads:2' would leave nothing of the 2 of layer 1's heads"));
  CHECK(refusal("heads:1").find("whole groups or equally many of each group can go: 2 heads") != std::string::npos);
  CHECK(refusal("heads:10%").find("the least that goes is 2 (50%)") != std::string::npos);
  CHECK(refusal("neurons:100%").find("at most 95") != std::string::npos);
  CHECK(refusal("neurons:1%").find("the least is 33.33%") != std::string::npos);
  CHECK(refusal("neurons:64").find("at most 63") != std::string::npos);
  CHECK(refusal("layers:2").find("at most 1 (50%)") != std::string::npos);
  CHECK(refusal("layers:10%").find("the least that goes is 1") != std::string::npos);
  CHECK(refusal("experts:1").find("has no mixture of experts") != std::string::npos);
  CHECK(refusal("experts:3", mixture_config()).find("at most 2 (50%) can go, since a token takes 2") !=
        std::string::npos);
  Config whole = small_config();
  whole.layers[1].qk_norm = whole.layers[1].qk_norm_whole = true;
  CHECK(refusal("heads:50%", whole).find("layer 1's norm of queries and keys is over all heads") != std::string::npos);
  CHECK(refusal("neurons:40%,attentions:1", whole) == "none");
  CHECK(refusal("layers:1,attentions:1,feed-forwards:1").find("together would leave nothing") != std::string::npos);
  for (const char* text : {"", "head:2", "heads", "heads:", "heads:x", "heads:0", "heads:0%", "heads:1,heads:1", ","})
    CHECK_MESSAGE(refusal(text).starts_with("2 structure '"), text);
}

TEST_CASE("heads and neurons go, the others make up for them, and the model stays near") {
  const CalibrationText text = calibration_windows(16, 24);
  const auto before = fresh(), model = fresh();
  const StructuredModel result = pruned(*model, "neurons:25%,heads:50%", text);
  const Config& config = result.model->config();
  // One group of two heads, or one head of each.
  CHECK(config.layers[0].heads == 2);
  CHECK(config.layers[0].ffn == 72);
  CHECK(config.layers[1] == LayerBlueprint{1, 1, 48, "full"});
  CHECK(result.block_parameters_removed == doctest::Approx(0.35).epsilon(0.2));
  REQUIRE(result.layers.size() == 2);
  CHECK(result.layers[0].errors.at("head_error") > 0);
  CHECK(result.layers[0].errors.at("neuron_error") > 0);
  CHECK(result.layers[0].errors.at("neuron_error") < 0.25);
  // Nearer than a model of the first heads and neurons of each layer, without a refit.
  std::vector<KeptLayer> first = whole_layers(before->config());
  for (size_t i = 0; i < first.size(); ++i) {
    first[i].heads.resize(static_cast<size_t>(before->config().layers[i].heads / 2));
    first[i].kv_heads.resize(static_cast<size_t>(before->config().layers[i].kv_heads / 2));
    first[i].units[0].resize(static_cast<size_t>(config.layers[i].ffn));
  }
  CHECK(distance(*before, *result.model, text) < 0.8 * distance(*before, *keep_layers(*before, first), text));
  // Twice gives the same bytes.
  const auto again = fresh();
  const StructuredModel same = pruned(*again, "neurons:25%,heads:50%", text);
  CHECK(distance(*same.model, *result.model, text) == 0);
}

TEST_CASE("of mixers that do not attend heads go alike, and the mixer as a whole") {
  Config config = small_config();
  set_attention(config, "conv:4,full");
  const CalibrationText text = calibration_windows(16, 24);
  const auto before = fresh(config), model = fresh(config);
  const StructuredModel result = pruned(*model, "heads:50%", text);
  CHECK(result.model->config().layers[0] == LayerBlueprint{2, 2, 96, "conv:4"});
  CHECK(result.model->config().layers[1].heads == 1);
  CHECK(result.layers[0].errors.at("head_error") > 0);
  std::vector<KeptLayer> first = whole_layers(config);
  for (KeptLayer& layer : first) {
    layer.heads.resize(layer.heads.size() / 2);
    layer.kv_heads = layer.heads;
  }
  CHECK(distance(*before, *result.model, text) < distance(*before, *keep_layers(*before, first), text));
  const auto other = fresh(config);
  const StructuredModel halves = pruned(*other, "attentions:1", text);
  CHECK(std::ranges::count_if(halves.model->config().layers, [](const auto& l) { return l.mixes(); }) == 1);
}

TEST_CASE("masked models: masks are sliced, and what they left out stays out") {
  const CalibrationText text = calibration_windows(16, 24);
  const auto model = fresh();
  for (const WeightSlot& slot : weight_slots(*model)) {
    if (!is_linear(slot.role)) continue;
    const Bitmask mask = Bitmask::zeros((*slot.weight)->rows(), (*slot.weight)->cols());
    for (int64_t r = 0; r < mask.rows(); ++r)
      for (int64_t c = r % 2; c < mask.cols(); c += 2) mask.set(r, c);
    (*slot.weight)->set_mask(mask);
  }
  const StructuredModel result = pruned(*model, "neurons:25%,heads:50%", text);
  for (const WeightSlot& slot : weight_slots(*result.model)) {
    if (!is_linear(slot.role)) continue;
    CHECK((*slot.weight)->form() == "masked");
    CHECK((*slot.weight)->nonzeros() <= (*slot.weight)->mask().count());
  }
}

TEST_CASE("layers and halves go by what the model loses, and none that matters more") {
  const CalibrationText text = calibration_windows(8, 24);
  const auto model = fresh(), other = fresh();
  // The second layer's attention says almost nothing.
  std::shared_ptr<Weight>& output = weight_named(*model, "blocks.1.attention.output.weight");
  Tensor small = output->to_dense().clone();
  for (float& w : small.span<float>()) w *= 1e-3f;
  output = std::make_shared<DenseWeight>(small);
  const StructuredModel result = pruned(*model, "attentions:1", text);
  CHECK(result.model->config().layers[1].heads == 0);
  CHECK(result.model->config().layers[1].ffn == 64);
  CHECK(result.model->config().layers[0].heads == 4);
  CHECK(*result.layers[1].kl < 1e-4);
  const StructuredModel shorter = pruned(*other, "layers:1", text);
  CHECK(shorter.model->config().layers.size() == 1);
  CHECK(shorter.block_parameters_removed > 0.3);
}

TEST_CASE("experts that no token needs go first, and the neurons of those that stay by their own tokens") {
  const CalibrationText text = calibration_windows(16, 24);
  const auto model = fresh(mixture_config());
  leave_experts_alone(*model);  // all tokens go to the first two
  const auto before = fresh(mixture_config());
  leave_experts_alone(*before);
  const StructuredModel result = pruned(*model, "experts:2", text);
  CHECK(result.model->config().layers[1].experts == 2);
  CHECK(distance(*before, *result.model, text) < 1e-9);
  const auto wide = fresh(mixture_config());
  const StructuredModel narrow = pruned(*wide, "experts:1,neurons:25%", text);
  CHECK(narrow.model->config().layers[1].experts == 3);
  CHECK(narrow.model->config().layers[1].ffn == 48);
  CHECK(narrow.model->config().layers[1].shared_experts == 1);
}

TEST_CASE("the stream becomes narrower, what reads and writes it makes up for that, and heads keep their width") {
  const CalibrationText text = calibration_windows(32, 24);
  for (const Config& config : {small_config(), mixture_config()}) {
    const auto before = fresh(config), model = fresh(config);
    const StructuredModel result = pruned(*model, "dim:12", text);
    Config expected = config;
    expected.block.dim = 36;
    expected.tied = false;
    CHECK(result.model->config() == expected);
    CHECK(result.block_parameters_removed == doctest::Approx(0.25));
    for (const StructuredLayer& layer : result.layers) {
      CHECK(layer.errors.at("dim_error") > 0);
      CHECK(layer.errors.at("dim_error") < 0.5);
    }
    // Nearer than the same axes without a refit, and twice the same bytes.
    RotatedModel cut(*before, first_columns(stream_axes(*before, text, DType::f32), 36));
    CHECK(distance(*before, *result.model, text) < 0.9 * distance(*before, cut.model(), text));
    const auto again = fresh(config);
    CHECK(distance(*pruned(*again, "dim:12", text).model, *result.model, text) == 0);
  }
}

TEST_CASE("the stream goes with other structures, all in one run") {
  const CalibrationText text = calibration_windows(16, 24);
  const auto model = fresh();
  const StructuredModel result = pruned(*model, "neurons:25%,heads:50%,dim:25%", text);
  CHECK(result.model->config().block.dim == 40);  // 36 is no multiple of 8
  CHECK(result.model->config().layers[0].ffn == 72);
  CHECK(result.model->config().layers[0].heads == 2);
  CHECK(result.layers[0].errors.at("dim_error") > 0);
  CHECK(result.layers[0].errors.at("neuron_error") > 0);
  const auto other = fresh();
  const StructuredModel shorter = pruned(*other, "dim:12,layers:1", text);
  CHECK(shorter.model->config().layers.size() == 1);
  CHECK(shorter.model->config().block.dim == 36);
}

TEST_CASE("a stream of which nothing would stay or go, or that cannot be rotated, is refused") {
  CHECK(refusal("dim:48").find("at most 47") != std::string::npos);
  CHECK(refusal("dim:100%").find("would leave nothing of the 48 of the residual stream's numbers") !=
        std::string::npos);
  Config wide = small_config();
  wide.block.dim = 64;
  CHECK(refusal("dim:10%", wide).find("the least is 50%") != std::string::npos);
  Config exits = small_config();
  exits.layers[0].exit = true;
  CHECK(refusal("dim:12", exits).starts_with("2 structure 'dim:12': layer 0 has an exit"));
  const CalibrationText text = calibration_windows(4, 24);
  const auto model = fresh();
  std::shared_ptr<Weight>& masked = weight_named(*model, "blocks.0.feed_forward.down.weight");
  const Bitmask mask = Bitmask::zeros(masked->rows(), masked->cols());
  mask.set(0, 0);
  masked->set_mask(mask);
  CHECK(failure([&] { pruned(*model, "dim:12", text); }).find("has a mask") != std::string::npos);
}

TEST_CASE("quantized weights are refused, and so is a run without text") {
  const auto model = fresh();
  StructureSettings settings;
  settings.counts = structure_counts(parse_structure("heads:50%"), model->config());
  CHECK(failure([&] { prune_structures(*model, settings); }).find("needs a calibration text") != std::string::npos);
}
