// generate --input: a file of requests through an engine.
#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <optional>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/integers.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "base/units.h"
#include "cli/batch_options.h"
#include "feed/sequence.h"
#include "measure/speed.h"
#include "model/verify_groups.h"
#include "serve/batch_file.h"

namespace hone::cli {
namespace {

class Batch {
 public:
  Batch(const GenerateOptions& options, const BatchOptions& batch, const GenerateSettings& settings,
        const Common& common)
      : o_(options), b_(batch), settings_(settings), common_(common) {}

  int run() {
    require_writable(b_.output, b_.force);
    model_ = load_model(o_.model, {.defer = true});
    verify_in_groups(model_);
    set_rounding(model_, o_.low_bit.rounding(o_.precision));
    tokenizer_ = make_tokenizer(model_.tokenizer);
    o_.low_bit.tell_of_activations(weight_forms(*model_.transformer));
    BatchSettings all;
    all.seed = common_.seed;
    all.all.tokens = settings_.tokens;
    all.all.sampling = settings_.sampling;
    all.all.stops = settings_.stops;
    all.all.ignore_end = settings_.ignore_end;
    all.all.logprobs = b_.logprobs.value_or(-1);
    const FileText file = read_file_text(b_.input);
    const Config& config = model_.transformer->config();
    prompts_.emplace(config, *tokenizer_, max_positions(config), FeedSettings().cache_bytes);
    const std::filesystem::path folder = std::filesystem::path(b_.input).parent_path();
    std::vector<BatchLine> lines = read_batch(file, folder, *tokenizer_, *prompts_, all);
    tell_equal_ids(lines);
    Engine engine(*model_.transformer, *tokenizer_, engine_settings(lines));
    size_t broken = 0;
    for (BatchLine& line : lines) {
      if (line.error.empty()) try {
          engine.check(line.request);
        } catch (const Error& error) {
          line.error = error.what();
        }
      if (!line.error.empty() && ++broken) log_warning("'{}' line {}: {}", b_.input, line.number, line.error);
    }
    if (common_.dry_run) {
      log_info("would continue {} of '{}' with '{}', {} at once", counted(lines.size() - broken, "prompt"), b_.input,
               o_.model, b_.engine.parallel);
      return broken ? static_cast<int>(ErrorKind::input) : 0;
    }
    BatchOutput output(b_.output, described(all, sha256_of(file.bytes.text), lines), lines, b_.force);
    if (output.found() > 0) log_info("found {} of {} written already", output.found(), counted(lines.size(), "text"));
    write(engine, lines, output);
    broken =
        static_cast<size_t>(std::ranges::count_if(lines, [](const BatchLine& line) { return !line.error.empty(); }));
    output.finish(b_.ordered, b_.force);
    tell(engine, lines.size() - broken, output.found());
    if (broken)
      throw input_error("{} of {} of '{}' could not be run; {}'{}'", broken, counted(lines.size(), "line"), b_.input,
                        broken < lines.size() ? "all others are in " : "what is wrong is in ", b_.output);
    return 0;
  }

 private:
  // What the texts depend on.
  nlohmann::json described(const BatchSettings& all, const std::string& input,
                           const std::vector<BatchLine>& lines) const {
    const Request& r = all.all;
    nlohmann::json of = {
        {"input", input},
        {"model", sha256_of_file(o_.model)},
        {"seed", all.seed},
        {"tokens", r.tokens},
        {"sampling", {r.sampling.temperature, r.sampling.top_k, r.sampling.top_p, r.sampling.repetition_penalty}},
        {"stops", r.stops},
        {"ignore_end", r.ignore_end},
        {"logprobs", r.logprobs},
        {"precision", name_of(settings_.type)},
        {"activations", o_.low_bit.activations},
        {"cache", o_.low_bit.cache_type}};
    std::string media;  // of all lines, so that other files of the same names are noticed
    for (const BatchLine& line : lines) media += line.media;
    if (!media.empty()) of["media"] = sha256_of(media);
    return of;
  }

  // Whoever looks for a text by its id finds several.
  void tell_equal_ids(const std::vector<BatchLine>& lines) const {
    std::map<nlohmann::json, int64_t> first;
    size_t equal = 0;
    constexpr size_t most = 5;
    for (const BatchLine& line : lines) {
      const auto [found, is_new] = first.emplace(line.id, line.number);
      if (is_new || !line.error.empty()) continue;
      if (++equal <= most)
        log_warning("'{}' line {} has the id {}, as line {} has", b_.input, line.number, line.id.dump(), found->second);
    }
    if (equal > most) log_warning("so it is with {}", counted(equal - most, "other"));
  }

  // Pages are shared: as many as the texts that are written at once need where they are the longest ones, and memory
  // has. A line that needs more than there can be is told, and left out.
  EngineSettings engine_settings(std::vector<BatchLine>& lines) const {
    const Config& config = model_.transformer->config();
    EngineSettings s = b_.engine.settings();
    s.parallel = std::min(s.parallel, static_cast<int64_t>(lines.size()));
    s.chunk = settings_.prefill_chunk;
    s.type = settings_.type;
    s.code = settings_.code;
    const bool given = s.cache_tokens > 0;
    const int64_t most = given ? std::max(s.cache_tokens / s.page_rows, int64_t{1}) : pages_in_memory(config, s, 0.5);
    std::vector<int64_t> pages;
    int64_t longest = 1, beyond = 0;
    for (BatchLine& line : lines) {
      if (!line.error.empty()) continue;
      const int64_t prompt = std::max<int64_t>(1, static_cast<int64_t>(line.request.prompt.size()));
      // The last token that is written is not read again.
      const int64_t size = std::min(prompt + std::max<int64_t>(line.request.tokens, 1) - 1, max_positions(config));
      const int64_t need = ceil_div(size, s.page_rows);
      if (need > most) {
        line.error =
            fmt::format("a prompt of {} and {} more do not fit {} of {}", counted(prompt, "token"), line.request.tokens,
                        given ? "a cache" : "memory, which has room for a text", most * s.page_rows);
        continue;
      }
      longest = std::max(longest, size);
      beyond += size > config.context;
      pages.push_back(need);
    }
    if (beyond > 0)
      log_warning(
          "'{}' was made for {} tokens; prompt and continuation of {} may reach up to {}, where it can "
          "lose the thread",
          o_.model, config.context, counted(beyond, "line"), longest);
    s.capacity = longest;
    if (given) return s;
    std::ranges::sort(pages, std::greater<>());
    pages.resize(std::min(pages.size(), static_cast<size_t>(s.parallel)));
    const int64_t together = std::accumulate(pages.begin(), pages.end(), int64_t{0});
    s.cache_tokens = std::clamp(together, int64_t{1}, most) * s.page_rows;
    return s;
  }

  // The engine's order, of all lines: it sees only some at a time.
  static std::vector<BatchLine*> in_order(const Engine& engine, std::vector<BatchLine>& lines) {
    const auto rank = [&](const BatchLine* line) {
      return engine.settings().order->rank({static_cast<int64_t>(line->request.prompt.size()), line->request.tokens});
    };
    std::vector<BatchLine*> order;
    for (BatchLine& line : lines) order.push_back(&line);
    std::ranges::stable_sort(order, {}, rank);
    return order;
  }

  // Again, now that their turn has come. False, with the line's error, where that went wrong.
  bool read_media(const Engine& engine, BatchLine& line, Request& request) const {
    if (line.parts.empty()) return true;
    try {
      prompts_->read(line.parts, request);
      engine.check(request);
      if (request.media->digest() == line.media) return true;
      line.error = "its images or sounds have changed since they were read first";
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::input) throw;
      line.error = error.what();
    }
    log_warning("'{}' line {}: {}", b_.input, line.number, line.error);
    return false;
  }

  void write(Engine& engine, std::vector<BatchLine>& lines, BatchOutput& output) {
    size_t done = output.found(), next = 0;
    const size_t begun_with = done;
    const std::vector<BatchLine*> order = in_order(engine, lines);
    Progress progress;
    // Not all at once: what waits in the engine is in memory.
    const auto fill = [&] {
      for (; next < lines.size() && engine.stats().waiting < b_.engine.parallel; ++next) {
        BatchLine& line = *order[next];
        if (output.has(line.number)) continue;
        if (!line.error.empty()) {
          output.write(line.number, json_of_error(line));
          ++done;
          continue;
        }
        Request request = line.request;
        if (!read_media(engine, line, request)) {
          output.write(line.number, json_of_error(line));
          ++done;
          continue;
        }
        request.on_done = [&](const Completion& text) {
          if (text.finish == Finish::failed) {
            line.error = "the model gives logits that are not finite";
            log_warning("'{}' line {}: {}", b_.input, line.number, line.error);
            output.write(line.number, json_of_error(line));
          } else {
            output.write(line.number, json_of(line, text, *tokenizer_));
          }
          ++done;
        };
        engine.submit(std::move(request));
      }
    };
    for (fill(); engine.step() || next < lines.size(); fill()) {
      const double seconds = watch_.seconds();
      const size_t mine = done - begun_with;
      const double left = mine ? seconds / static_cast<double>(mine) * static_cast<double>(lines.size() - done) : 0;
      const EngineStats s = engine.stats();
      progress.show(fmt::format("{}/{} texts, {} at once, {}{}", done, lines.size(), s.running,
                                format_rate(static_cast<double>(s.decoded_tokens) / seconds, "tokens"),
                                mine ? ", " + format_duration(left) + " left" : ""));
    }
  }

  // `before`: texts of earlier runs among them.
  void tell(const Engine& engine, size_t texts, size_t before) const {
    const EngineStats s = engine.stats();
    const double seconds = watch_.seconds();
    log_info("{}{} in {}: {} written ({}), {} of prompts read, {} found in the cache, {}", counted(texts, "text"),
             before > 0 ? fmt::format(", {} of them before,", before) : "", format_duration(seconds),
             counted(s.decoded_tokens, "token"), format_rate(static_cast<double>(s.decoded_tokens) / seconds, "tokens"),
             s.prompt_tokens, s.cached_tokens, counted(s.steps, "step"));
    log_debug("{} preemptions, {} of {} in the model, {} around it", s.preemptions, format_duration(s.model_seconds),
              format_duration(seconds), format_duration(s.own_seconds));
  }

  const GenerateOptions& o_;
  const BatchOptions& b_;
  const GenerateSettings& settings_;
  const Common& common_;
  Model model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<PromptReader> prompts_;
  Stopwatch watch_;
};

}  // namespace

int generate_batch(const GenerateOptions& options, const BatchOptions& batch, const GenerateSettings& settings,
                   const Common& common) {
  return Batch(options, batch, settings, common).run();
}

}  // namespace hone::cli
