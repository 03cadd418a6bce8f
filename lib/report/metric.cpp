#include "report/metric.h"

#include <algorithm>
#include <array>

namespace hone {
namespace {

constexpr bool whole = true, compared = true;

constexpr auto table = std::to_array<Metric>({
    {"file_bytes", Display::bytes, 0, "bytes", "size of the model file", Origin::model, whole},
    {"parameters", Display::count, 0, "", "numbers in the model's matrices and vectors, zeros included", Origin::model,
     whole},
    {"nonzero_parameters", Display::count, 0, "", "parameters whose value is not zero", Origin::model, whole},
    {"active_parameters", Display::count, 0, "", "parameters that one token's forward pass uses", Origin::model, whole},
    {"sparsity", Display::fraction, 1, "", "what masks leave out of the matrices that may be pruned, as a fraction",
     Origin::model},
    {"zero_fraction", Display::fraction, 1, "",
     "values of the same matrices that are zero: pruned, rounded to zero by quantization, or zero by chance",
     Origin::model},
    {"attention_fraction", Display::fraction, 1, "", "query-key pairs that attention visited / those of full attention",
     Origin::model},
    {"weight_bytes", Display::bytes, 0, "bytes", "memory that the weights take as they are executed", Origin::model,
     whole},
    {"questions", Display::whole, 0, "", "questions of several answers that were scored", Origin::choices, whole},
    {"answers", Display::whole, 0, "", "answers that were scored", Origin::answers, whole},
    {"tokens", Display::count, 0, "tokens", "tokens that were predicted and scored", Origin::text, whole},
    {"bytes", Display::count, 0, "bytes", "bytes of text that the scored tokens stand for", Origin::text, whole},
    {"loss", Display::fixed, 4, "nats/token", "mean of -ln p(token | its context)", Origin::text, !whole, compared},
    {"perplexity", Display::plain, 4, "", "exp(loss)", Origin::text, !whole, compared},
    {"bits_per_byte", Display::fixed, 4, "bits/byte", "sum of -log2 p over the scored tokens / their bytes",
     Origin::text, !whole, compared},
    {"accuracy", Display::fraction, 2, "", "tokens whose most probable prediction is right, as a fraction",
     Origin::text, !whole, compared},
    {"accuracy_stderr", Display::fraction, 2, "", "standard error of accuracy", Origin::text},
    {"accuracy_by_bytes", Display::fraction, 2, "",
     "questions whose right answer has the largest log probability a byte, as a fraction", Origin::choices, !whole,
     compared},
    {"accuracy_by_bytes_stderr", Display::fraction, 2, "", "standard error of accuracy_by_bytes", Origin::choices},
    {"text_loss", Display::fixed, 4, "nats/token",
     "loss of text that was written, by all layers of the model that wrote it"},
    {"mean_depth", Display::fixed, 2, "layers", "layers that a token goes through, mean over the tokens"},
    {"exit_agreement", Display::fraction, 2, "",
     "tokens that are predicted where they leave as they are behind all layers, as a fraction"},
    {"depth_fraction", Display::fraction, 1, "",
     "tokens that went through the layers whose routers let only some through, as a fraction", Origin::depth},
    {"depth_agreement", Display::fraction, 1, "",
     "tokens that a predictor let through, or not, as being among the best of the window would have, as a fraction",
     Origin::depth},
    {"router_entropy", Display::plain, 3, "nats",
     "entropy of the routers' distributions over experts, mean over tokens and mixtures", Origin::routing},
    {"largest_load_over_mean", Display::fixed, 2, "",
     "tokens of a mixture's busiest expert over the mean of its experts; the largest over mixtures", Origin::routing},
    {"dropped_tokens", Display::count, 0, "", "choices of experts that a capacity left out", Origin::routing, whole},
    {"prefill_tokens_per_second", Display::count, 0, "tokens/s", "prompt tokens processed a second", Origin::speed},
    {"decode_tokens_per_second", Display::count, 0, "tokens/s", "generated tokens a second, over the whole batch",
     Origin::speed},
    {"first_token_ms", Display::plain, 3, "ms", "time from the prompt to the first generated token", Origin::speed},
    {"attention_ms", Display::plain, 4, "ms",
     "time in attention: of a prompt, or of a training step forward and backward", Origin::speed},
    {"attention_decode_ms", Display::plain, 3, "ms", "time in attention of one generated token", Origin::speed},
    {"latency_ms_p50", Display::plain, 3, "ms", "median time of one generated token", Origin::speed},
    {"latency_ms_p95", Display::plain, 3, "ms", "95th percentile of the time of one generated token", Origin::speed},
    {"latency_ms_p99", Display::plain, 3, "ms", "99th percentile of the time of one generated token", Origin::speed},
    {"peak_rss_bytes", Display::bytes, 0, "bytes", "largest memory of the process while it was measured",
     Origin::memory, whole},
    {"kl", Display::plain, 3, "nats/token", "mean KL divergence of the model's prediction from the baseline's",
     Origin::comparison},
    {"top1_agreement", Display::fraction, 2, "", "tokens for which model and baseline predict the same, as a fraction",
     Origin::comparison},
    {"threads", Display::whole, 0, "", "threads used", Origin::run},
    {"seed", Display::plain, 0, "", "seed of the random streams", Origin::run},
    {"train_tokens_per_second", Display::count, 0, "tokens/s",
     "training tokens a second: forward, backward and update"},
    {"attention_forward_ms", Display::plain, 4, "ms", "time in the forward of attention of a training step"},
    {"attention_backward_ms", Display::plain, 4, "ms", "time in the backward of attention of a training step"},
    {"flops_per_token", Display::count, 0, "flop",
     "multiplications and additions of matrix products and attention for one generated token"},
    {"bytes_per_token", Display::bytes, 0, "bytes",
     "weight and cache bytes read for one generated token; a batch shares the weights"},
    {"read_bytes_per_second", Display::bytes, 0, "bytes/s", "bytes_per_token times decode_tokens_per_second"},
    {"flops_per_second", Display::count, 0, "flop/s", "multiplications and additions of matrix products a second"},
    {"bandwidth_fraction", Display::fraction, 1, "", "read_bytes_per_second / the machine's measured read bandwidth"},
    {"matrix_fraction", Display::fraction, 1, "", "flops_per_second / the machine's measured matrix peak"},
    {"ceiling_read_bytes_per_second", Display::bytes, 0, "bytes/s", "the machine's measured read bandwidth"},
    {"ceiling_flops_per_second", Display::count, 0, "flop/s",
     "the machine's measured matrix peak in the precision used"},
    {"step", Display::whole, 0, "", "optimizer steps taken"},
    {"learning_rate", Display::plain, 3, "", "learning rate of the step"},
    {"gradient_norm", Display::plain, 3, "", "norm of all gradients before clipping"},
});

constexpr std::array<std::string_view, 8> suffixes = {
    "_difference_low", "_difference_high", "_ratio_low", "_ratio_high", "_difference", "_ratio", "_low", "_high"};

}  // namespace

std::span<const Metric> metrics() {
  return table;
}

const Metric* find_metric(std::string_view name) {
  const std::span<const Metric> all = metrics();
  const auto found = std::ranges::find(all, name, &Metric::name);
  return found == all.end() ? nullptr : &*found;
}

std::pair<std::string_view, std::string_view> split_comparison(std::string_view name) {
  for (const std::string_view suffix : suffixes) {
    if (!name.ends_with(suffix)) continue;
    const std::string_view rest = name.substr(0, name.size() - suffix.size());
    const Metric* metric = find_metric(rest);
    const bool end = suffix == "_low" || suffix == "_high";  // of an interval that has no more to its name
    if (metric && (end ? metric->origin == Origin::comparison : metric->compared))
      return {rest, name.substr(rest.size())};
  }
  return {name, ""};
}

bool needs_baseline(std::string_view name) {
  const Metric* metric = find_metric(name);
  return (metric && metric->origin == Origin::comparison) || !split_comparison(name).second.empty();
}

}  // namespace hone
