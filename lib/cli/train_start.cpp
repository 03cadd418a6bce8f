#include "cli/train_start.h"

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/log.h"
#include "base/units.h"
#include "dataset/corpus.h"
#include "dataset/tokenizer_file.h"
#include "io/lineage.h"
#include "model/depth_routers.h"
#include "model/exits.h"
#include "model/size.h"
#include "nn/mixer.h"
#include "train/run_state.h"

namespace hone::cli {

// A dry run makes no model: shapes alone.
std::optional<ShapesOnly> TrainStart::shapes_of_dry_run() const {
  return common_.dry_run ? std::optional<ShapesOnly>(std::in_place) : std::nullopt;
}

void TrainStart::load() {
  const std::string& path = o_.resume.empty() ? o_.init : o_.resume;
  if (path.empty()) return;
  ReadOptions read;
  read.run = !o_.resume.empty();
  model_ = load_model(path, read, &checkpoint_, grid_.row);
  agree(*common_.ranks, [&] { require_finite(model_); });
  if (o_.resume.empty()) {
    parent_ = sha256_of_start(path);
    if (o_.experts.experts) upcycle();
    return;
  }
  if (!checkpoint_.run)
    throw input_error("'{}' is a model, not a checkpoint of a run; continue from it with --init", path);
  parent_ = of_run("parent_sha256");
  if (!o_.init.empty() && sha256_of_start(o_.init) != parent_)
    throw usage_error("--init '{}' is not the model that the run of '{}' began with; leave it out", o_.init, path);
  model_.lineage = lineage_before_run(std::move(model_.lineage));
  if (const auto& d = (*checkpoint_.run)["description"]; d.is_object() && d.contains("upcycled"))
    upcycled_ = d["upcycled"];
  if (!o_.model.shape_option().empty()) check_shape();
  o_.experts.check_same(model_.transformer->config());
}

// Ranks with parts of one model read a file whole for this once.
std::string TrainStart::sha256_of_start(const std::string& path) const {
  const auto read = [&] { return grid_.group()->rank() == 0 ? sha256_of_file(path) : std::string(); };
  return gather_agreed(*grid_.group(), read).front();
}

void TrainStart::upcycle() {
  const std::optional<ShapesOnly> shapes = shapes_of_dry_run();
  model_.transformer = o_.experts.upcycled(*model_.transformer, common_.seed);
  upcycled_ = {{"experts", *o_.experts.experts}, {"from", o_.init}};
  log_info("turned '{}' into a mixture: {} parameters, {} active", o_.init,
           format_count(static_cast<double>(size_of(*model_.transformer).parameters)),
           format_count(static_cast<double>(size_of(*model_.transformer).active_parameters)));
}

nlohmann::json TrainStart::description_of_checkpoint() const {
  if (!checkpoint_.run || !checkpoint_.run->is_object()) return nullptr;
  return checkpoint_.run->value("description", nlohmann::json());
}

// What the run's description, which the checkpoint keeps, says of its start: a checkpoint is no stage, so that the
// parent of a run that was resumed is the file that it began with.
std::string TrainStart::of_run(const char* name) const {
  const nlohmann::json description = description_of_checkpoint();
  if (!description.is_object()) return "";
  const auto found = description.find(name);
  return found != description.end() && found->is_string() ? found->get<std::string>() : "";
}

void TrainStart::adapt() {
  adapt_attention();
  adapt_exits();
  adapt_depth_routers();
}

// Gives a model that exists the kinds of attention that are asked for, and remembers those it had.
void TrainStart::adapt_attention() {
  Transformer& model = *model_.transformer;
  if (!o_.resume.empty()) attention_before_ = of_run("attention_before");
  if (!o_.model.attention) return;
  const std::string before = attention_of(model.config());
  if (!o_.resume.empty() && mixer_by_layer(*o_.model.attention, model.config().layers.size()) !=
                                mixer_by_layer(before, model.config().layers.size()))
    throw usage_error("--attention {} differs from the checkpoint's {}; resume with the same options",
                      *o_.model.attention, before);
  model.set_attention(*o_.model.attention);
  if (attention_of(model.config()) != before) attention_before_ = before;
}

// Gives a model that exists the exits that are asked for.
void TrainStart::adapt_exits() {
  Transformer& model = *model_.transformer;
  const std::vector<int64_t> before = exits_of(model.config()), wanted = o_.depth.depths(model.config());
  if (wanted == before) return;
  if (!o_.resume.empty())
    throw usage_error("--exits {} differs from the checkpoint's exits ({}); resume with the same options",
                      *o_.depth.exits, before.empty() ? "none" : fmt::format("{}", fmt::join(before, ",")));
  model.set_exits(wanted);
}

// Gives a model that exists the routers of depth that are asked for.
void TrainStart::adapt_depth_routers() {
  Transformer& model = *model_.transformer;
  const Config wanted = o_.depth.routed(model.config());
  if (wanted == model.config()) return;
  if (!o_.resume.empty())
    throw usage_error(
        "--depth-router {}: the checkpoint has {}; resume with the same options", *o_.depth.router,
        depth_routers_of(model.config()).empty() ? "no routers of depth" : describe_depth_routers(model.config()));
  model.set_depth_routers(depth_routers_of(wanted), *o_.depth.router, common_.seed);
}

// Options of the shape may be repeated to resume, but not changed.
void TrainStart::check_shape() const {
  const nlohmann::json there = to_json(model_.transformer->config());
  Config config = o_.model.config(make_tokenizer(model_.tokenizer)->vocabulary());
  if (o_.experts.experts) config = o_.experts.apply(std::move(config));
  const Config& own = model_.transformer->config();
  if (config.layers.size() == own.layers.size()) {
    set_exits(config, exits_of(own));  // adapt_exits() compares them
    for (size_t i = 0; i < own.layers.size(); ++i) config.layers[i].depth_fraction = own.layers[i].depth_fraction;
  }
  const nlohmann::json here = to_json(config);
  for (const auto& [key, value] : here.items())
    if (!there.contains(key) || there.at(key) != value)
      throw usage_error(
          "this run differs from the checkpoint's in the model's '{}' ({} there, {} here); resume with the "
          "same options",
          key, there.contains(key) ? there.at(key).dump() : "none", value.dump());
}

void TrainStart::create(const std::vector<TextSource>& sources) {
  std::shared_ptr<const Tokenizer> tokenizer;
  const std::string name = o_.tokenizer.value_or("bytes");
  if (name.ends_with(".h5")) {
    ReadOptions read;
    read.parameters = false;
    tokenizer = make_tokenizer(read_model_file(name, read).tokenizer);
  } else if (names_tokenizer_file(name)) {
    tokenizer = make_tokenizer(read_tokenizer_file(name));
  } else {
    const TokenizerSpec spec = for_option("--tokenizer", [&] { return parse_tokenizer_spec(name); });
    // Not on what is held out.
    const auto texts = documents_of(o_.valid_fraction > 0 ? split_texts(sources, o_.valid_fraction).first : sources);
    if (spec.kind != "bytes" && sources.empty())
      throw usage_error("--tokenizer {} is trained on text; give --data", name);
    tokenizer = train_tokenizer(spec, texts);
  }
  Config config = o_.model.config(tokenizer->vocabulary());
  if (o_.experts.experts) config = o_.experts.apply(std::move(config));
  const std::optional<ShapesOnly> shapes = shapes_of_dry_run();
  model_.transformer = std::make_unique<Transformer>(config, grid_.row);
  initialize(*model_.transformer, common_.seed, o_.model.init_std.value_or(init_deviation));
  model_.tokenizer = tokenizer->to_json();
}

void TrainStart::describe(RunSettings& settings) const {
  settings.description["parent_sha256"] = parent_;
  if (!attention_before_.empty()) settings.description["attention_before"] = attention_before_;
  if (!upcycled_.is_null()) settings.description["upcycled"] = upcycled_;
}

}  // namespace hone::cli
