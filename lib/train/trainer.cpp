#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/random.h"
#include "base/stop.h"
#include "model/exits.h"
#include "train/objectives/exits.h"

namespace hone {

double RouterTraining::temperature(int64_t step, int64_t steps) const {
  const double part = steps > 1 ? static_cast<double>(step) / static_cast<double>(steps - 1) : 0;
  return temperature_from * std::pow(temperature_to / temperature_from, std::min(part, 1.0));
}

std::string precision_of(const StepSettings& settings) {
  if (settings.eight_bits) return "int8";
  return settings.type == DType::bf16 ? "bf16" : "f32";
}

Trainer::Trainer(Transformer& model, BatchSource& source, const StepSettings& settings)
    : model_(model),
      source_(source),
      settings_(settings),
      full_context_(settings.curriculum.empty() ? source.context() : settings.curriculum.back().context),
      optimizer_(model, settings.optimizer, *settings.grid.data),
      sum_(optimizer_.parameters(), *settings.grid.data),
      objectives_(objectives_of(settings.objectives)),
      meanwhile_(sums_meanwhile()) {
  const Communicator& rows = *settings_.grid.data;
  if (rows.size() > 1) source_.share(settings_.batch, rows.rank(), rows.size());
}

bool Trainer::sums_meanwhile() const {
  if (settings_.grid.data->size() == 1 || settings_.layer_dropout.most > 0 || settings_.objectives.exits.weight > 0)
    return false;
  if (!model_.encoders().empty()) return false;  // of which a batch may have no part
  // Experts may be without tokens, and routers fail on one rank alone.
  return std::ranges::none_of(model_.config().layers, [](const LayerBlueprint& layer) {
    return layer.experts > 0 || layer.depth_fraction > 0 || layer.exit;
  });
}

namespace {

struct Sender : BackwardObserver {
  explicit Sender(GradientSum& to) : sum(to) {}
  void done(int64_t layer) override { sum.begin(layer); }
  GradientSum& sum;
};

}  // namespace

RouterCall Trainer::router_call(int64_t step, const ModelRouting& earlier) const {
  const RouterTraining& r = settings_.router;
  RouterCall call;
  call.noise = r.noise;
  call.temperature = static_cast<float>(r.temperature(step, settings_.schedule.steps));
  call.balance_weight = r.balance_weight;
  call.z_weight = r.z_weight;
  call.capacity_factor = r.capacity_factor;
  call.earlier = &earlier;
  return call;
}

// After the optimizer's step, as in algorithm 1 of arXiv 2408.15664.
void Trainer::balance(const ModelRouting& routing) {
  if (settings_.router.bias_rate <= 0) return;
  for (size_t i = 0; i < routing.size(); ++i)
    // Only mixtures have a load.
    if (!routing[i].load.empty()) model_.blocks()[i].feed_forward->balance(routing[i].load, settings_.router.bias_rate);
}

StepResult Trainer::step(int64_t step) {
  Communicator& all = *settings_.grid.all;
  const int sharing = all.one_process() ? all.size() : 1;  // the pool, of which each is said to have an equal part
  const auto meet = [&] {
    if (sharing > 1) all.gather("");
  };
  meet();
  reset_pool_peak();
  const size_t before = pool_used_bytes();
  meet();
  try {
    StepResult result = gradients_and_step(step);
    result.optimizer_bytes = optimizer_.state_bytes();
    meet();
    const size_t after = pool_used_bytes(), peak = pool_peak_bytes();
    meet();  // what others do next is not of this step
    // A step that made gradients and copies of the weights, as the first does, had less of them at its peak.
    if (after == before) result.activation_bytes = static_cast<int64_t>(peak - before) / sharing;
    return result;
  } catch (...) {  // a router that is not finite, a signal: nothing of the step remains
    optimizer_.discard_gradients();
    sum_.discard();
    throw;
  }
}

StepResult Trainer::batch_gradients(int64_t step, int64_t micro, const ModelRouting& earlier) {
  StepResult result;
  result.encoders.resize(model_.encoders().size());
  const float weight = 1.0f / static_cast<float>(settings_.accumulate);
  const Input input = batch_.rows.input();
  Call call = model_.call(input, batch_.spans, settings_.type);
  // A function of the step alone: a resumed run draws the same.
  call.noise.seed = mix64(settings_.seed ^ mix64(static_cast<uint64_t>(step * settings_.accumulate + micro)));
  call.noise.dropout = settings_.dropout;
  call.eight_bits = settings_.eight_bits;
  call.router = router_call(step, earlier);
  call.trace = {.attention = settings_.attention, .routing = &result.routing, .depth = &result.depth};
  call.best_pass = true;
  call.own_rows = true;
  if (!result.encoders.empty()) call.trace.encoders = &result.encoders;
  call.recompute = settings_.recompute;
  call.exits =
      exits_trained(settings_.objectives.exits, exits_of(model_.config()), step * settings_.accumulate + micro);
  call.skip = skip_probabilities(settings_.layer_dropout, model_.layers(), step, settings_.schedule.steps);
  Sender sender(sum_);
  if (meanwhile_) call.trace.backward = &sender;
  for (const auto& objective : objectives_) objective->prepare({input.ids, batch_.starts}, call);
  Tape tape;
  Transformer::Output out = model_.forward(input, call);
  std::vector<LossTerm> terms;
  for (const auto& objective : objectives_)
    for (LossTerm& term : objective->terms({model_, call, input.ids, batch_.targets, out.hidden, weight, out.exits,
                                            batch_.weights, batch_.left, batch_.right}))
      terms.push_back(std::move(term));
  for (LossTerm& term : out.terms) {
    term.weight *= weight;
    terms.push_back(std::move(term));
  }
  out.hidden = Var();
  out.exits.clear();
  for (size_t i = 0; i < terms.size(); ++i) {
    const LossTerm& term = terms[i];
    const double value = static_cast<double>(term.value.value().data<float>()[0]) * static_cast<double>(term.weight);
    result.terms[term.name] += value;
    result.minimized += value;
    if (term.exit > 0) {
      auto& [sum, batches] = result.exit_losses[std::to_string(term.exit)];
      sum += static_cast<double>(term.value.value().data<float>()[0]);
      ++batches;
    }
    if (i == 0) result.loss += value;
    if (term.of == LossOf::router) result.router_loss += value;
  }
  result.tokens += batch_.data_rows;
  result.data_rows += batch_.data_rows;
  result.rows += call.batch.rows();
  result.pairs += static_cast<int64_t>(batch_.left.size());
  tape.backward(terms);
  return result;
}

void Trainer::read_batch() {
  const Communicator& rows = *settings_.grid.data;
  const int64_t sequences = settings_.batch * full_context_ / source_.context();
  source_.skip(sequences * rows.rank());
  source_.next(sequences, batch_);
  source_.skip(sequences * (rows.size() - 1 - rows.rank()));
}

std::string Trainer::turn(int64_t step, int64_t round, const ModelRouting& earlier) {
  const Communicator& rows = *settings_.grid.data;
  nlohmann::json turn;
  try {
    turn["result"] = packed(batch_gradients(step, round * rows.size() + rows.rank(), earlier));
    turn["gradients"] = sum_.present();
  } catch (const RouterError& error) {
    turn["router_error"] = {error.kind(), error.what()};
  }
  const std::vector<uint8_t> bytes = nlohmann::json::to_cbor(turn);  // which has what is not finite, too
  return {bytes.begin(), bytes.end()};
}

void Trainer::add_round(int64_t step, int64_t round, StepResult& result) {
  const RankGrid& grid = settings_.grid;
  std::vector<std::string> turns;
  if (grid.group()->size() == 1 && !meanwhile_) {
    turns = gather_agreed(*grid.all, [&] {
      read_batch();
      return turn(step, round, result.routing);
    });
  } else {
    // Messages are on their way while ranks compute: a signal to one is looked at behind the batch, and an error of one
    // alone, which leaves others waiting, ends all by Communicator::leave().
    std::string mine;
    if (source_.fails_alone()) agree(*grid.all, [&] { read_batch(); });
    own_turn_ = grid.all->size() > 1;
    if (!source_.fails_alone()) read_batch();
    {
      const StopLater together;
      mine = turn(step, round, result.routing);
    }
    own_turn_ = false;
    try {
      turns = gather_agreed(*grid.all, [&] {
        check_stop();
        return mine;
      });
    } catch (const Stopped&) {
      sum_.drop();
      throw;
    }
  }
  std::vector<std::string> present;
  for (int row = 0; row < grid.data->size(); ++row) {  // whose ranks all say the same
    const nlohmann::json turn = nlohmann::json::from_cbor(turns[static_cast<size_t>(grid.place(row, 0))]);
    if (const auto error = turn.find("router_error"); error != turn.end())
      throw RouterError(error->at(0).get<ErrorKind>(), error->at(1).get<std::string>());
    add(result, unpacked(turn.at("result")));
    present.push_back(turn.at("gradients").get<std::string>());
  }
  sum_.add(present);
}

StepResult Trainer::gradients_and_step(int64_t step) {
  StepResult result;
  result.learning_rate = settings_.schedule.at(step);
  result.encoders.resize(model_.encoders().size());
  if (!settings_.curriculum.empty())
    source_.set_context(settings_.curriculum[stage_of(settings_.curriculum, step)].context);
  result.context = source_.context();
  for (int64_t round = 0; round < settings_.accumulate / settings_.grid.data->size(); ++round)
    add_round(step, round, result);
  sum_.finish();
  result.gradient_norm = optimizer_.gradient_norm();
  if (!std::isfinite(result.minimized) || !std::isfinite(result.gradient_norm)) {
    optimizer_.discard_gradients();
    return result;
  }
  const bool clipped = settings_.clip > 0 && result.gradient_norm > settings_.clip;
  optimizer_.step(result.learning_rate, clipped ? settings_.clip / result.gradient_norm : 1.0,
                  settings_.decay->part(step, settings_.schedule.steps));
  sum_.share_values();
  balance(result.routing);
  return result;
}

}  // namespace hone
