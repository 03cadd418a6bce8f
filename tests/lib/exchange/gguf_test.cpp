// Models in GGUF files, there and back, and files that are none.
#include "exchange/gguf.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <random>

#include "base/error.h"
#include "exchange/architecture.h"
#include "exchange/gguf_file.h"
#include "exchange/gguf_form.h"
#include "exchange/model_numbers.h"
#include "lib/exchange/gguf_models.h"
#include "support/check.h"
#include "support/turns.h"

using namespace hone;
using namespace hone::test;

namespace {

Tensor logits_of(const Transformer& model) {
  const std::vector<int32_t> tokens = {1, 7, 3, 39, 22, 0, 5, 5, 11};
  const Call call = model.call(Batch::whole(1, static_cast<int64_t>(tokens.size())), DType::f32);
  return model.logits(model.hidden(tokens, call).value());
}

}  // namespace

TEST_CASE("models there and back, in each type") {
  const Folder folder("gguf");
  for (const std::string name : {"llama", "qwen2", "qwen3", "gpt2"})
    for (const std::string type : {"f32", "f16", "bf16"}) {
      CAPTURE(name);
      CAPTURE(type);
      const Model model = with_bytes(name);
      const Exported written = export_gguf(model, folder / "m.gguf", {true, false, type});
      CHECK(written.architecture == name);
      CHECK(written.bytes == static_cast<int64_t>(std::filesystem::file_size(folder / "m.gguf")));
      const Model back = model_of_gguf(folder / "m.gguf");
      CHECK(back.transformer->config() == model.transformer->config());
      CHECK(relative_error(logits_of(*back.transformer), logits_of(*model.transformer)) < (type == "f32"   ? 1e-6
                                                                                           : type == "f16" ? 2e-3
                                                                                                           : 3e-2));
    }
}

TEST_CASE("mixtures there and back: the matrices of all experts are one tensor") {
  const Folder folder("gguf-experts");
  const auto alike = [](Config& c) { std::fill(c.layers.begin() + 1, c.layers.end(), c.layers[0]); };
  const auto own_keys = [](Config& c) {
    for (LayerBlueprint& layer : c.layers) layer.kv_heads = layer.heads;
  };
  const struct {
    std::string name, architecture;
    std::function<void(Config&)> change;
  } cases[] = {{"mixtral", "llama", {}},
               {"qwen2_moe", "qwen2moe", alike},
               {"qwen3_moe", "qwen3moe", alike},
               {"olmoe", "olmoe", own_keys}};
  for (const auto& [name, architecture, change] : cases) {
    CAPTURE(name);
    const Model model = with_bytes(name, change);
    CHECK(export_gguf(model, folder / "m.gguf", {true, false, "f32"}).architecture == architecture);
    const Model back = model_of_gguf(folder / "m.gguf");
    CHECK(back.transformer->config() == model.transformer->config());
    CHECK(relative_error(logits_of(*back.transformer), logits_of(*model.transformer)) < 1e-6);
    const GgufFile file(folder / "m.gguf");
    const LayerBlueprint& layer = model.transformer->config().layers[0];
    const int64_t dim = model.transformer->config().block.dim;
    CHECK(file.integer(architecture + ".expert_count") == layer.experts);
    CHECK(file.integer(architecture + ".expert_used_count") == layer.top_k);
    const GgufTensor& down = file.tensors().at("blk.0.ffn_down_exps.weight");
    CHECK(down.shape == Shape{layer.experts, dim, layer.ffn});
    CHECK(file.tensors().at("blk.0.ffn_up_exps.weight").shape == Shape{layer.experts, layer.ffn, dim});
    CHECK(file.tensors().at("blk.0.ffn_gate_inp.weight").shape == Shape{layer.experts, dim});
    const ModelNumbers numbers(*model.transformer);
    const Tensor all = file.numbers(down), third = numbers.of("blocks.0.feed_forward.experts.2.down.weight");
    for (int64_t i = 0; i < third.size(); ++i)
      REQUIRE(all.data<float>()[2 * third.size() + i] == third.data<float>()[i]);
    if (layer.shared_gate) {
      CHECK(file.integer(architecture + ".expert_shared_feed_forward_length") == 16);
      CHECK(file.tensors().at("blk.0.ffn_gate_inp_shexp.weight").shape == Shape{dim});
      CHECK(file.tensors().at("blk.0.ffn_down_shexp.weight").shape == Shape{dim, 16});
    }
    export_gguf(model, folder / "m.gguf", {true, false, "f16"});
    const GgufFile rounded(folder / "m.gguf");
    CHECK(rounded.tensors().at("blk.0.ffn_gate_exps.weight").type->name == "f16");
    CHECK(rounded.tensors().at("blk.0.ffn_gate_inp.weight").type->name == "f32");
    if (layer.shared_gate) CHECK(rounded.tensors().at("blk.0.ffn_gate_inp_shexp.weight").type->name == "f32");
  }
}

TEST_CASE("the matrices of a mixture's only expert may lie without a dimension for it") {
  const Folder folder("gguf-one-expert");
  const Model model = with_bytes("olmoe", [](Config& c) {
    for (LayerBlueprint& layer : c.layers) {
      layer.kv_heads = layer.heads;
      layer.experts = layer.top_k = 1;
      layer.normalized_gates = true;  // as it is read: of one alone it says nothing
    }
  });
  const Config& config = model.transformer->config();
  const GgufForm& form = *find_architecture("olmoe")->gguf;
  const ModelNumbers numbers(*model.transformer);
  const TensorOrigins origins = origins_of(config, form.parts, numbers);
  GgufContent content;
  content.values = {{"general.architecture", std::string(form.name)}};
  form.write(config, content);
  for (const auto& [name, origin] : origins)
    content.tensors.push_back({name, origin.part.shape, &block_type_named("f32")});
  write_gguf(folder / "m.gguf", false, content,
             [&](const GgufTensor& tensor) { return numbers_of(origins.at(tensor.name), numbers); });
  CHECK(GgufFile(folder / "m.gguf").tensors().at("blk.0.ffn_down_exps.weight").shape.size() == 2);
  const Model again = model_of_gguf(folder / "m.gguf");
  CHECK(relative_error(logits_of(*again.transformer), logits_of(*model.transformer)) < 1e-6);
}

TEST_CASE("what llama.cpp would run as another model is refused") {
  const Folder folder("gguf-refused");
  const auto said = [&](const Model& model, ExportSettings settings = {}) -> std::string {
    try {
      export_gguf(model, folder / "m.gguf", settings);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::usage);
      CHECK(!std::filesystem::exists(folder / "m.gguf"));
      return error.what();
    }
    return "";
  };
  CHECK(said(with_bytes("mistral")).find("attention that is not full") != std::string::npos);
  CHECK(said(with_bytes("qwen3_moe")).find("qwen3moe: layers that differ") != std::string::npos);
  const auto shared = [](int64_t experts, bool gate) {
    return with_bytes("qwen2_moe", [=](Config& c) {
      c.layers = {c.layers[0], c.layers[0]};
      for (LayerBlueprint& layer : c.layers) layer.shared_experts = experts, layer.shared_gate = gate;
    });
  };
  CHECK(said(shared(2, false)).find("qwen2moe: shared experts without a gate") != std::string::npos);
  CHECK(said(shared(0, false)).find("qwen2moe: mixtures without shared experts") != std::string::npos);
  CHECK(said(with_bytes("olmoe")).find("olmoe: heads that share keys") != std::string::npos);
  const auto olmoe = [](bool tied, bool normalized) {
    return with_bytes("olmoe", [=](Config& c) {
      c.tied = tied;
      for (LayerBlueprint& layer : c.layers) layer.kv_heads = layer.heads, layer.normalized_gates = normalized;
    });
  };
  CHECK(said(olmoe(true, false)).find("olmoe: a head that is the embedding") != std::string::npos);
  CHECK(said(olmoe(false, true)).find("olmoe: chosen experts whose weights sum to 1") != std::string::npos);
  CHECK(said(with_bytes("mixtral", [](Config& c) {
          c.layers[0].normalized_gates = false;
        })).find("llama: chosen experts whose weights do not sum to 1") != std::string::npos);
  CHECK(said(with_bytes("mixtral", [](Config& c) { c.layers[0].top_k = 1; })).find("llama: one expert a token") !=
        std::string::npos);
  CHECK(said(with_bytes("mixtral", [](Config& c) { c.layers[0].shared_experts = 1; })).find("llama: shared experts") !=
        std::string::npos);
  const auto scaled = [](Config& c) { c.block.rope_scaling = {RopeScaling::Kind::llama3, 8, 1, 4, 16}; };
  CHECK(said(with_bytes("qwen3", scaled)).find("qwen3: Llama 3's rotary scaling") != std::string::npos);
  CHECK(said(with_bytes("qwen2", [](Config& c) { c.block.head_dim = 12; })).find("qwen2: heads of another width") !=
        std::string::npos);
  CHECK(said(with_bytes("neox")).find("gpt2: GELU itself") != std::string::npos);
  CHECK(said(with_bytes("llama"), {true, false, "q8_0"}).find("rows of 16 numbers") != std::string::npos);
}

TEST_CASE("thousands of mutations of a GGUF file crash nothing") {
  const Folder folder("gguf-mutations");
  std::string goods[2];
  for (size_t i = 0; i < 2; ++i) {
    export_gguf(with_bytes(i == 0 ? "gpt2" : "mixtral"), folder / "good.gguf", {true});
    goods[i] = bytes_of_file(folder / "good.gguf");
  }
  std::mt19937 random(20261128);
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  int refused = 0, read = 0;
  for (int64_t i = 0; i < rounds_of(1000, 2000); ++i) {
    const std::string& good = goods[i % 4 < 3 ? 0 : 1];
    const size_t data = good.size() - 4 * 9000;
    std::string bytes = good;
    for (size_t edits = 1 + below(3); edits > 0; --edits) {
      // Most of a file is its vocabulary: half of the edits go to the keys before it.
      const size_t at = below(std::min(bytes.size(), i % 2 ? size_t{700} : data));
      switch (below(4)) {
        case 0:
          bytes[at] = static_cast<char>(below(256));
          break;
        case 1:
          bytes[at] = static_cast<char>(0xff);
          break;
        case 2:
          bytes.erase(at, 1 + below(8));
          break;
        default:
          bytes.resize(at + 1);
      }
    }
    put_file(folder / "m.gguf", bytes);
    try {
      model_of_gguf(folder / "m.gguf");
      ++read;
    } catch (const Error& error) {
      CHECK(error.kind() != ErrorKind::internal);
      ++refused;
    }
  }
  CHECK(refused > 500);
  CHECK(read > 10);
}
