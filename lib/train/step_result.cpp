#include "train/step_result.h"

namespace hone {

using nlohmann::json;

void add(StepResult& to, const StepResult& batch) {
  to.loss += batch.loss;
  to.tokens += batch.tokens;
  to.minimized += batch.minimized;
  to.router_loss += batch.router_loss;
  for (const auto& [name, value] : batch.terms) to.terms[name] += value;
  for (const auto& [depth, losses] : batch.exit_losses) {
    auto& [sum, batches] = to.exit_losses[depth];
    sum += losses.first;
    batches += losses.second;
  }
  to.encoders.resize(batch.encoders.size());
  for (size_t i = 0; i < batch.encoders.size(); ++i) {
    EncoderLoad& all = to.encoders[i];
    const EncoderLoad& more = batch.encoders[i];
    all = {all.calls + more.calls, all.parts + more.parts, all.rows + more.rows, all.seconds + more.seconds};
  }
  to.rows += batch.rows;
  to.data_rows += batch.data_rows;
  to.pairs += batch.pairs;
  add(to.depth, batch.depth);
  add(to.routing, batch.routing);
}

json packed(const StepResult& batch) {
  json encoders = json::array(), routing = json::array(), depth = json::array();
  for (const EncoderLoad& e : batch.encoders) encoders.push_back({e.calls, e.parts, e.rows, e.seconds});
  for (const LayerRouting& r : batch.routing)
    routing.push_back({r.tokens, r.load, r.dropped, r.entropy, r.balance_loss, r.z_loss, r.calls});
  for (const LayerDepth& d : batch.depth) depth.push_back({d.tokens, d.passed, d.compared, d.agreed});
  return {batch.loss, batch.tokens, batch.minimized, batch.router_loss, batch.terms, batch.exit_losses,
          encoders,   batch.rows,   batch.data_rows, routing,           depth,       batch.pairs};
}

StepResult unpacked(const json& all) {
  StepResult batch;
  size_t at = 0;
  const auto take = [&](auto& value) { all.at(at++).get_to(value); };
  take(batch.loss);
  take(batch.tokens);
  take(batch.minimized);
  take(batch.router_loss);
  take(batch.terms);
  take(batch.exit_losses);
  for (const json& e : all.at(at++)) batch.encoders.push_back({e.at(0), e.at(1), e.at(2), e.at(3)});
  take(batch.rows);
  take(batch.data_rows);
  for (const json& r : all.at(at++)) {
    LayerRouting layer;
    layer.tokens = r.at(0);
    r.at(1).get_to(layer.load);
    layer.dropped = r.at(2);
    layer.entropy = r.at(3);
    layer.balance_loss = r.at(4);
    layer.z_loss = r.at(5);
    layer.calls = r.at(6);
    batch.routing.push_back(std::move(layer));
  }
  for (const json& d : all.at(at++)) batch.depth.push_back({d.at(0), d.at(1), d.at(2), d.at(3)});
  take(batch.pairs);
  return batch;
}

}  // namespace hone
