// Whole models against PyTorch's logits (tests/fixtures/make_exchange_fixtures.py), and back into the same bytes.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "exchange/architecture.h"
#include "lib/exchange/folders.h"

using namespace hone;
using namespace hone::test;

namespace {

const std::vector<std::string> names = {"llama",     "mistral",   "qwen2", "qwen3", "mixtral",
                                        "qwen2_moe", "qwen3_moe", "olmoe", "gpt2",  "neox"};

// The largest difference between the model's logits and those of the fixture.
double difference(const Transformer& model, const std::string& name) {
  const nlohmann::json expected = nlohmann::json::parse(bytes_of_file(fixture_folder(name) + "/expected.json"));
  const std::vector<int32_t> tokens = expected.at("tokens").get<std::vector<int32_t>>();
  const Call call = model.call(Batch::whole(1, static_cast<int64_t>(tokens.size())), DType::f32);
  const Tensor logits = model.logits(model.hidden(tokens, call).value());
  double largest = 0;
  for (size_t t = 0; t < tokens.size(); ++t)
    for (size_t v = 0; v < static_cast<size_t>(logits.dim(1)); ++v)
      largest = std::max(largest, std::abs(static_cast<double>(logits.data<float>()[t * 40 + v]) -
                                           expected.at("logits").at(t).at(v).get<double>()));
  return largest;
}

std::string complaint(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.kind() != ErrorKind::internal);
    return error.what();
  }
  return "";
}

// The fixture in a folder of its own, its config.json changed.
void copy_with(const Folder& to, const std::string& name, const nlohmann::json& changes) {
  for (const auto& [file, bytes] : files_of(fixture_folder(name))) put_file(to / file, bytes);
  nlohmann::json config = nlohmann::json::parse(bytes_of_file(to / "config.json"));
  config.update(changes);
  put_file(to / "config.json", config.dump());
}

}  // namespace

TEST_CASE("logits of each architecture are PyTorch's") {
  for (const std::string& name : names) {
    CAPTURE(name);
    CHECK(difference(*model_from(fixture_folder(name)).transformer, name) < 1e-4);
  }
}

TEST_CASE("what was read comes back byte for byte") {
  for (const std::string& name : names) {
    CAPTURE(name);
    const Folder back("back-" + name);
    Model model = model_from(fixture_folder(name));
    const Exported exported = export_hugging_face(model, back.path.string(), {});
    CHECK(exported.as_it_came);
    CHECK(exported.architecture == (name == "neox" ? "gpt_neox" : name));
    auto expected = files_of(fixture_folder(name)), found = files_of(back.path);
    expected.erase("expected.json");
    CHECK(found == expected);
  }
}

TEST_CASE("arrays that are read piece by piece become the same file") {
  const Folder folder("streamed");
  Imported imported = import_hugging_face(fixture_folder("llama"));
  const std::string streamed =
      write_model_file(folder / "m.h5", imported.file, false, IfTaken::refuse, {.read = imported.read}).sha256;
  ModelFile whole = imported.file;
  for (auto& [name, encoded] : whole.parameters) encoded.arrays["values"] = values_of(imported, name);
  CHECK(write_model_file(folder / "whole.h5", whole, false).sha256 == streamed);
  const Model model = load_model(folder / "m.h5");
  CHECK(difference(*model.transformer, "llama") < 1e-4);
  CHECK(model.origin == imported.file.origin);
  save_model(folder / "again.h5", model, false);
  CHECK(load_model(folder / "again.h5").origin == imported.file.origin);
  CHECK(complaint([&] { save_model(folder / "x.h5", model_from(fixture_folder("gpt2")), false); }) == "");
}

TEST_CASE("what has another shape is written afresh, and reads back as the same model") {
  for (const std::string& name : names) {
    CAPTURE(name);
    const Folder back("fresh-" + name);
    Model model = model_from(fixture_folder(name));
    model.origin = nullptr;
    const Exported exported = export_hugging_face(model, back.path.string(), {});
    CHECK(!exported.as_it_came);
    const Model again = model_from(back.path.string());
    CHECK(again.transformer->config() == model.transformer->config());
    CHECK(difference(*again.transformer, name) < 1e-4);
  }
}

TEST_CASE("a whole file beside its configuration is a model, too") {
  CHECK(difference(*model_from(fixture_folder("gpt2") + "/model.safetensors").transformer, "gpt2") < 1e-4);
}

TEST_CASE("a second copy of a tied head is passed over where it is one") {
  const Folder folder("second-head");
  copy_with(folder, "qwen2", nlohmann::json::object());
  const std::string bytes = bytes_of_file(folder / "model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  nlohmann::json header = nlohmann::json::parse(bytes.substr(sizeof length, length));
  const std::string data = bytes.substr(sizeof length + length);
  REQUIRE(header.at("model.embed_tokens.weight").at("data_offsets") == nlohmann::json{0, 1280});
  std::string head = data.substr(0, 1280);
  const auto said = [&] {
    header["lm_head.weight"] = {
        {"dtype", "BF16"}, {"shape", {40, 16}}, {"data_offsets", {data.size(), data.size() + head.size()}}};
    const std::string text = header.dump();
    const uint64_t size = text.size();
    put_file(folder / "model.safetensors",
             std::string(reinterpret_cast<const char*>(&size), sizeof size) + text + data + head);
    return complaint([&] { model_from(folder.path.string()); });
  };
  CHECK(said() == "");
  head.back() = static_cast<char>(head.back() ^ 1);
  CHECK(said().find("'lm_head.weight' differs from the embedding") != std::string::npos);
}

TEST_CASE("a mixture may stand in some layers alone") {
  const Folder folder("sparse-step");
  const auto experts = [&](const nlohmann::json& changes) {
    copy_with(folder, "qwen3_moe", changes);
    const nlohmann::json config = nlohmann::json::parse(bytes_of_file(folder / "config.json"));
    std::vector<int64_t> all;
    for (const LayerBlueprint& layer : architecture_of(Settings(config, "test")).read(Settings(config, "test")).layers)
      all.push_back(layer.experts);
    return all;
  };
  CHECK(experts(nlohmann::json::object()) == std::vector<int64_t>{4, 0});
  CHECK(experts({{"mlp_only_layers", nullptr}, {"decoder_sparse_step", 2}, {"num_hidden_layers", 4}}) ==
        std::vector<int64_t>{0, 4, 0, 4});
  CHECK(model_from(fixture_folder("qwen3_moe")).transformer->config().layers[1].ffn == 24);
}

TEST_CASE("gates sum to 1 where the file says so") {
  const Folder folder("gates");
  const auto normalized = [&](const std::string& name, const nlohmann::json& changes) {
    copy_with(folder, name, changes);
    const nlohmann::json config = nlohmann::json::parse(bytes_of_file(folder / "config.json"));
    return architecture_of(Settings(config, "test")).read(Settings(config, "test")).layers[0].normalized_gates;
  };
  CHECK(normalized("qwen3_moe", nlohmann::json::object()));
  CHECK(!normalized("qwen3_moe", {{"norm_topk_prob", nullptr}}));
  CHECK(!normalized("olmoe", {{"norm_topk_prob", nullptr}}));
  CHECK(normalized("olmoe", {{"norm_topk_prob", true}}));
  copy_with(folder, "olmoe", {{"norm_topk_prob", true}});
  const Model other = model_from(folder.path.string());
  CHECK(difference(*other.transformer, "olmoe") > 1e-2);
  const Config config = other.transformer->config();
  CHECK(config.layers[0].qk_norm_whole);
  CHECK(format_version_of(config) == 4);
  CHECK(config_from_json(to_json(config), "test") == config);
}

TEST_CASE("a shared expert is as wide as several, and has a gate") {
  const Folder folder("shared-gate");
  const auto read = [&](const nlohmann::json& changes) {
    copy_with(folder, "qwen2_moe", changes);
    const nlohmann::json config = nlohmann::json::parse(bytes_of_file(folder / "config.json"));
    return architecture_of(Settings(config, "test")).read(Settings(config, "test"));
  };
  const Config config = read(nlohmann::json::object());
  const LayerBlueprint& layer = config.layers[0];
  CHECK(config.block.qkv_biases);
  CHECK(!read({{"qkv_bias", false}}).block.qkv_biases);
  CHECK(layer.ffn == 8);
  CHECK(layer.shared_experts == 2);
  CHECK(layer.shared_gate);
  CHECK(!layer.normalized_gates);
  CHECK(config.layers[1].experts == 0);
  CHECK(config.layers[1].ffn == 24);
  CHECK(config.layers[2] == layer);
  CHECK(format_version_of(config) == 5);
  CHECK(config_from_json(to_json(config), "test") == config);
  Config without = config;
  for (LayerBlueprint& l : without.layers) l.shared_gate = false;
  CHECK(format_version_of(without) == 4);
  without.layers[1].shared_gate = true;  // of a dense layer
  CHECK(complaint([&] { check(without); }).find("needs shared experts") != std::string::npos);
  const std::string said = complaint([&] { read({{"shared_expert_intermediate_size", 20}}); });
  CHECK(said.find("width 20") != std::string::npos);
  CHECK(said.find("8 each") != std::string::npos);
  // Another number of shared experts is a matter of shapes: the tensors say no.
  copy_with(folder, "qwen2_moe", {{"shared_expert_intermediate_size", 24}});
  CHECK(complaint([&] { model_from(folder.path.string()); }).find("shared_expert.") != std::string::npos);
}

TEST_CASE("all that the files of an architecture cannot express is said at once") {
  Config config = model_from(fixture_folder("qwen2_moe")).transformer->config();
  config.block.head_dim = 12;
  for (LayerBlueprint& layer : config.layers) layer.attention = "window:8";
  const std::string said = complaint([&] { find_architecture("qwen2_moe")->write(config); });
  CHECK(said.find("heads of another width than dim / heads") != std::string::npos);
  CHECK(said.find("windows of attention") != std::string::npos);
}

TEST_CASE("what Hone lacks is named") {
  const Folder folder("lacks");
  const auto said = [&](const std::string& name, const nlohmann::json& changes) {
    copy_with(folder, name, changes);
    return complaint([&] { model_from(folder.path.string()); });
  };
  CHECK(said("llama", {{"model_type", "mamba"}}).find("llama, mistral, qwen2") != std::string::npos);
  CHECK(said("llama", {{"attention_bias", true}}).find("attention_bias") != std::string::npos);
  CHECK(said("llama", {{"hidden_act", "relu"}}).find("hidden_act") != std::string::npos);
  CHECK(said("llama", {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}}}}).find("yarn") != std::string::npos);
  CHECK(said("llama", {{"hidden_size", 32}}).find("has shape [40, 16] where") != std::string::npos);
  CHECK(said("llama", {{"num_hidden_layers", 3}}).find("'model.layers.2.") != std::string::npos);
  CHECK(said("llama", {{"num_hidden_layers", 1}}).find("belongs to nothing") != std::string::npos);
  CHECK(said("llama", {{"hidden_size", "many"}}).find("'hidden_size' is not an integer") != std::string::npos);
  CHECK(said("qwen2", {{"use_sliding_window", true}}).find("use_sliding_window") != std::string::npos);
  CHECK(said("qwen3_moe", {{"num_experts_per_tok", 1}}).find("norm_topk_prob") != std::string::npos);
  CHECK(said("olmoe", {{"clip_qkv", 8.0}}).find("clip_qkv") != std::string::npos);
  CHECK(said("olmoe", {{"attention_bias", true}}).find("attention_bias") != std::string::npos);
  CHECK(said("olmoe", {{"num_attention_heads", 3}}).find("no multiple of 'num_attention_heads' 3") !=
        std::string::npos);
  CHECK(said("qwen3_moe", {{"decoder_sparse_step", 0}}).find("decoder_sparse_step") != std::string::npos);
  CHECK(said("qwen3_moe", {{"mlp_only_layers", 7}}).find("mlp_only_layers") != std::string::npos);
  const auto clear = [&] {  // of the shards of another
    std::filesystem::remove_all(folder.path);
    std::filesystem::create_directories(folder.path);
  };
  clear();
  CHECK(said("qwen3", {{"attention_bias", true}}).find("attention_bias") != std::string::npos);
  CHECK(said("olmoe", {{"model_type", "qwen3_moe"}, {"moe_intermediate_size", 12}, {"head_dim", 4}})
            .find("q_norm.weight' has shape [16]") != std::string::npos);
  CHECK(said("qwen3", {{"model_type", "llama"}}).find("norm.weight' belongs to nothing") != std::string::npos);
  CHECK(said("qwen2", {{"model_type", "qwen3"}, {"head_dim", 8}}).find("q_norm.weight' is missing") !=
        std::string::npos);
  clear();
  CHECK(complaint([&] { model_from(folder.path.string()); }).find("config.json") != std::string::npos);
}

TEST_CASE("what a format lacks is refused, or written plainly where that is asked for") {
  const Folder back("plain");
  Model model = model_from(fixture_folder("llama"));
  struct Masker : Visitor {
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (info.role != Role::down) return;
      const Bitmask mask = Bitmask::ones(weight->rows(), weight->cols());
      mask.bits().data<uint8_t>()[0] = 0xfe;
      weight->set_mask(mask);
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } masker;
  model.transformer->visit(masker);
  CHECK(complaint([&] { export_hugging_face(model, back / "no", {}); }).find("masked") != std::string::npos);
  CHECK(!std::filesystem::exists(back / "no"));
  ExportSettings settings;
  settings.densify = true;
  CHECK(export_hugging_face(model, back / "yes", settings).as_it_came);
  CHECK(model_from(back / "yes").transformer->blocks().size() == 2);
  CHECK(files_of(back / "yes").at("config.json") == files_of(fixture_folder("llama")).at("config.json"));
  model.transformer->set_attention("window:8:2");
  const std::string said = complaint([&] { export_hugging_face(model, back / "other", {}); });
  CHECK(said.find(fmt::format("'{}'", model.path)) != std::string::npos);
  CHECK(said.find("masked f32") != std::string::npos);
  CHECK(said.find("llama: attention of the kind 'window:8:2'") != std::string::npos);
}
