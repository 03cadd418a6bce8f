#include "exchange/gguf.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>

#include "base/error.h"
#include "dataset/base64.h"
#include "dataset/sentence_piece.h"
#include "dataset/sentence_piece_file.h"
#include "dataset/tokenizer.h"
#include "exchange/gguf_file.h"
#include "exchange/gguf_form.h"
#include "exchange/gguf_tokenizer.h"
#include "exchange/model_numbers.h"
#include "exchange/numbers.h"
#include "exchange/tokenizer_files.h"
#include "lib/exchange/folders.h"
#include "support/check.h"
#include "support/failure.h"

using namespace hone;
using namespace hone::test;

namespace {

Model model_of_gguf(const std::string& path) {
  return model_in_memory(import_gguf(path), path);
}

Tensor logits_of(const Transformer& model) {
  const std::vector<int32_t> tokens = {1, 7, 3, 39, 22, 0, 5, 5, 11};
  const Call call = model.call(Batch::whole(1, static_cast<int64_t>(tokens.size())), DType::f32);
  return model.logits(model.hidden(tokens, call).value());
}

// The fixture with a table of 256 rows and more, so that it has room for bytes, and `change`.
Model with_bytes(const std::string& name, const std::function<void(Config&)>& change = {}, int64_t rows = 260) {
  Model small = model_from(fixture_folder(name));
  Config config = small.transformer->config();
  if (change) change(config);
  config.vocabulary = config.padded_vocabulary = rows;
  Model model;
  model.transformer = std::make_unique<Transformer>(config);
  initialize(*model.transformer, 3, 0.3);
  return model;
}

}  // namespace

TEST_CASE("blocks: codes and scales by hand") {
  std::vector<float> values(32), back(32);
  for (int i = 0; i < 32; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i - 16);
  const BlockType &q8 = block_type_named("q8_0"), &q4 = block_type_named("q4_0");
  std::vector<std::byte> bytes(34);
  encode_blocks(q8, values, bytes.data());
  CHECK(static_cast<int>(static_cast<int8_t>(bytes[2])) == -127);    // -16 is the largest: 127 steps
  CHECK(static_cast<int>(static_cast<int8_t>(bytes[2 + 17])) == 8);  // 1 / (16 / 127) = 7.94
  decode_blocks(q8, bytes.data(), back);
  for (size_t i = 0; i < 32; ++i) CHECK(std::abs(back[i] - values[i]) < 16.0f / 127 / 2 + 0.01f);
  encode_blocks(q4, values, bytes.data());                  // d = 2; the code of x is x / 2 + 8.5, cut
  CHECK(static_cast<int>(bytes[2]) == (0 | 8 << 4));        // -16 and 0
  CHECK(static_cast<int>(bytes[2 + 15]) == (8 | 15 << 4));  // -1 and 15, which is cut to 15
  decode_blocks(q4, bytes.data(), back);
  CHECK(back[0] == -16.0f);
  CHECK(back[31] == 14.0f);
  std::fill(values.begin(), values.end(), 0.0f);
  for (const BlockType* type : {&q8, &q4}) {
    encode_blocks(*type, values, bytes.data());
    decode_blocks(*type, bytes.data(), back);
    CHECK(back == values);
  }
}

// Each against a straightforward reading of ggml's description of the blocks.
TEST_CASE("K-quants: codes, scales and smallest values by hand") {
  std::vector<float> out(256);
  std::vector<std::byte> b(210, std::byte{0});
  const uint16_t one = to_half(1.0f), half = to_half(0.5f);
  std::memcpy(b.data(), &one, 2);
  std::memcpy(b.data() + 2, &half, 2);
  b[4] = std::byte{0b01'000011};  // group 0: scale 3; the upper bits of group 4's scale: 1
  b[8] = std::byte{0b10'000101};  // group 0: least 5; the upper bits of group 4's least: 2
  b[12] = std::byte{0x24};        // group 4: scale 1 << 4 | 4 = 20, least 2 << 4 | 2 = 34
  b[16] = std::byte{0xa7};        // the first codes of groups 0 and 1: 7 and 10
  b[16 + 64] = std::byte{0x0f};   // of groups 4 and 5: 15 and 0
  decode_blocks(block_type_named("q4_k"), b.data(), out);
  CHECK(out[0] == 3 * 7 - 0.5f * 5);
  CHECK(out[1] == -0.5f * 5);
  CHECK(out[32] == 0);  // group 1 has scale 0 and least 0
  CHECK(out[128] == 20 * 15 - 0.5f * 34);
  std::fill(b.begin(), b.end(), std::byte{0});
  std::memcpy(b.data() + 208, &half, 2);
  b[0] = std::byte{0x5c};                                        // first low codes of quarters 0 and 2: 12 and 5
  b[128] = std::byte{0b00'11'00'01};                             // high bits of quarters 0, 1, 2, 3: 1, 0, 3, 0
  b[192] = std::byte{2};                                         // scale of the first 16 numbers
  b[192 + 4] = static_cast<std::byte>(static_cast<int8_t>(-3));  // of quarter 2
  decode_blocks(block_type_named("q6_k"), b.data(), out);
  CHECK(out[0] == 0.5f * 2 * (16 + 12 - 32));
  CHECK(out[64] == 0.5f * -3 * (48 + 5 - 32));
  CHECK(out[1] == 0.5f * 2 * -32);
  std::fill(b.begin(), b.end(), std::byte{0});
  std::memcpy(b.data() + 80, &half, 2);
  std::memcpy(b.data() + 82, &one, 2);
  b[0] = std::byte{0x53};                // the first 16 numbers: scale 3, least 5
  b[11] = std::byte{0x2f};               // numbers 176 to 191: scale 15, least 2
  b[16] = std::byte{0b00'00'00'10};      // of number 0: 2; of 32, 64 and 96: 0
  b[16 + 32 + 31] = std::byte{0b11'00};  // of number 128 + 32 + 31: 3
  decode_blocks(block_type_named("q2_k"), b.data(), out);
  CHECK(out[0] == 0.5f * 3 * 2 - 5);
  CHECK(out[1] == -5);
  CHECK(out[32] == 0);
  CHECK(out[191] == 0.5f * 15 * 3 - 2);
  CHECK(out[190] == -2);
  std::fill(b.begin(), b.end(), std::byte{0});
  std::memcpy(b.data() + 108, &half, 2);
  b[0] = std::byte{0b0010'0001};      // high bits of numbers 0 and 160
  b[32] = std::byte{0b11};            // low bits of number 0: 3
  b[32 + 32] = std::byte{0b01'00};    // of number 128 + 32: 1
  b[96] = std::byte{0x09};            // scale of group 0: 9,
  b[96 + 8] = std::byte{0b11};        // and 3 << 4
  b[96 + 2] = std::byte{0x70};        // of group 10: 7,
  b[96 + 10] = std::byte{0b01'0000};  // and 1 << 4
  decode_blocks(block_type_named("q3_k"), b.data(), out);
  CHECK(out[0] == 0.5f * (57 - 32) * (7 - 4));
  CHECK(out[1] == 0.5f * (57 - 32) * -4);
  CHECK(out[160] == 0.5f * (23 - 32) * (5 - 4));
  CHECK(out[161] == 0.5f * (23 - 32) * -4);
  CHECK(out[16] == 0.5f * -32 * -4);
}

TEST_CASE("five bits: codes and smallest values by hand") {
  std::vector<float> out(32);
  std::vector<std::byte> b(24, std::byte{0});
  const uint16_t two = to_half(2.0f), half = to_half(0.5f);
  std::memcpy(b.data(), &two, 2);
  b[2] = std::byte{1};          // the fifth bit of number 0,
  b[5] = std::byte{0x80};       // and of 31
  b[6] = std::byte{0x43};       // of number 0: 3; of 16: 4
  b[6 + 15] = std::byte{0xf0};  // of number 31: 15
  decode_blocks(block_type_named("q5_0"), b.data(), out);
  CHECK(out[0] == 2 * (19 - 16));
  CHECK(out[16] == 2 * (4 - 16));
  CHECK(out[31] == 2 * (31 - 16));
  CHECK(out[15] == 2 * -16);
  std::fill(b.begin(), b.end(), std::byte{0});
  std::memcpy(b.data(), &two, 2);
  std::memcpy(b.data() + 2, &half, 2);
  b[4 + 1] = std::byte{0b10};  // the fifth bit of number 9
  b[8 + 9] = std::byte{0x21};  // of number 9: 1; of 25: 2
  decode_blocks(block_type_named("q5_1"), b.data(), out);
  CHECK(out[9] == 2 * 17 + 0.5f);
  CHECK(out[25] == 2 * 2 + 0.5f);
  CHECK(out[0] == 0.5f);
}

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

TEST_CASE("tokenizers and keys of a file") {
  const Folder folder("gguf-keys");
  export_gguf(with_bytes("llama"), folder / "m.gguf", {});
  const GgufFile file(folder / "m.gguf");
  CHECK(file.text("tokenizer.ggml.model") == "gpt2");
  CHECK(file.texts("tokenizer.ggml.tokens").size() == 260);
  CHECK(file.texts("tokenizer.ggml.tokens")[259] == "[PAD259]");
  CHECK(file.integers("tokenizer.ggml.token_type")[259] == 5);
  CHECK(file.texts("tokenizer.ggml.merges").empty());
  CHECK(file.integer("tokenizer.ggml.eos_token_id") == 0);
  CHECK(file.tensors().at("rope_freqs.weight").shape == Shape{4});
  CHECK(file.tensors().at("blk.1.attn_k.weight").shape == Shape{8, 16});
}

namespace {

// SentencePiece's byte pairs with byte fallback of the fixtures, after `change`.
Model with_sentence_pieces(const std::function<void(SentencePieceFile&)>& change) {
  std::ifstream stream(HONE_TEST_DATA "/sentence_pieces.json");
  const nlohmann::json fixtures = nlohmann::json::parse(stream);
  for (const nlohmann::json& known : fixtures["models"]) {
    if (known["name"] != "bpe with bytes") continue;
    SentencePieceFile file = parse_sentence_piece(from_base64(known["model"].get<std::string>()).value(), "it");
    for (SentencePieceFile::Piece& piece : file.pieces)  // llama.cpp puts a space behind a user's piece
      if (piece.type == SentencePieceFile::user_defined) piece.type = SentencePieceFile::normal;
    change(file);
    Model model = with_bytes(
        "llama", [&](Config& c) { c.context = 64; }, static_cast<int64_t>(file.pieces.size()) + 3);
    model.tokenizer = sentence_piece_json(sentence_piece_bytes(file), "it", "");
    return model;
  }
  FAIL("no such model");
  return {};
}

}  // namespace

TEST_CASE("pre-tokenizers by their names, there and back") {
  const Folder folder("gguf-pre");
  const nlohmann::json bytes = nlohmann::json::parse(tokenizer_files(nullptr).front().second);
  std::vector<std::string> letters(256);
  for (const auto& [text, id] : bytes["model"]["vocab"].items()) letters[id.get<size_t>()] = text;
  for (const auto& [name, written] :
       {std::pair("gpt-2", "gpt-2"), std::pair("llama-bpe", "llama-bpe"), std::pair("qwen2", "qwen2"),
        std::pair("smollm", "smollm"), std::pair("olmo", "gpt-2")}) {
    CAPTURE(name);
    GgufContent content;
    content.values = {{"tokenizer.ggml.model", std::string("gpt2")},
                      {"tokenizer.ggml.pre", std::string(name)},
                      {"tokenizer.ggml.tokens", letters},
                      {"tokenizer.ggml.merges", std::vector<std::string>()},
                      {"tokenizer.ggml.eos_token_id", int64_t{0}}};
    write_gguf(folder / "m.gguf", true, content, [](const GgufTensor& t) { return Tensor::zeros(t.shape); });
    const nlohmann::json read = tokenizer_from_gguf(GgufFile(folder / "m.gguf"));
    CHECK(make_tokenizer(read)->vocabulary() == 256);
    GgufContent again;
    add_gguf_tokenizer(read, 256, again);
    CHECK(std::get<std::string>(again.values[1].second) == written);
  }
  const auto said = [&](const nlohmann::json& pre_tokenizer) {
    nlohmann::json whole = bytes;
    whole["pre_tokenizer"] = pre_tokenizer;
    GgufContent content;
    return failure([&] {
      add_gguf_tokenizer({{"kind", "tokenizer.json"}, {"text", whole.dump()}, {"separator", 0}}, 256, content);
    });
  };
  nlohmann::json falls_back = bytes;
  falls_back["model"]["byte_fallback"] = true;
  GgufContent nothing;
  CHECK(failure([&] {
          add_gguf_tokenizer({{"kind", "tokenizer.json"}, {"text", falls_back.dump()}, {"separator", 0}}, 256, nothing);
        }).find("with its tokenizer.model") != std::string::npos);
  const nlohmann::json level = bytes["pre_tokenizer"], together = {{"type", "Digits"}, {"individual_digits", false}};
  CHECK(said(level) == "none");
  CHECK(said({{"type", "Sequence"}, {"pretokenizers", {together, level}}}).find("pre-tokenizer") != std::string::npos);
}

TEST_CASE("SentencePiece's byte pairs there and back") {
  const Folder folder("gguf-pieces");
  for (const bool space : {true, false}) {
    CAPTURE(space);
    const Model model = with_sentence_pieces([=](SentencePieceFile& f) { f.add_space = space; });
    export_gguf(model, folder / "m.gguf", {true, false, "same"});
    const auto before = make_tokenizer(model.tokenizer);
    const GgufFile file(folder / "m.gguf");
    CHECK(file.text("tokenizer.ggml.model") == "llama");
    CHECK(file.boolean("tokenizer.ggml.add_space_prefix", !space) == space);
    CHECK(file.integer("tokenizer.ggml.eos_token_id") == 2);
    CHECK(file.integer("tokenizer.ggml.bos_token_id") == 1);
    CHECK(file.integers("tokenizer.ggml.token_type").back() == 5);
    CHECK(file.fractions("tokenizer.ggml.scores").size() == static_cast<size_t>(before->vocabulary()) + 3);
    const auto after = make_tokenizer(model_of_gguf(folder / "m.gguf").tokenizer);
    CHECK(after->vocabulary() == before->vocabulary());
    CHECK(after->separator() == before->separator());
    for (const char* text : {"the river follows", " a  stone", "naïve café 東京 \n\t", "aaaaab", "", "</s> <0x0A>"}) {
      CAPTURE(text);
      CHECK(after->encode(text) == before->encode(text));
    }
  }
  const std::pair<std::function<void(SentencePieceFile&)>, const char*> refused[] = {
      {[](SentencePieceFile& f) { f.algorithm = SentencePieceFile::unigram; }, "unigram"},
      {[](SentencePieceFile& f) { f.byte_fallback = false; }, "does not fall back to bytes"},
      {[](SentencePieceFile& f) { f.remove_extra_spaces = true; }, "changes the text"},
      {[](SentencePieceFile& f) { f.space_behind_words = true; }, "changes the text"},
      {[](SentencePieceFile& f) { f.pieces.back().type = SentencePieceFile::user_defined; }, "pieces of a user's"}};
  for (const auto& [change, part] : refused) {
    CAPTURE(part);
    const std::string said = failure([&] { export_gguf(with_sentence_pieces(change), folder / "n.gguf", {}); });
    CHECK(said.starts_with("2 "));
    CHECK(said.find(part) != std::string::npos);
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
  for (int i = 0; i < 3500; ++i) {
    const std::string& good = goods[i < 2500 ? 0 : 1];
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
  CHECK(refused > 1000);
  CHECK(read > 10);
}
