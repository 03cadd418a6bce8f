#include "cli/batch_options.h"

#include "base/error.h"
#include "base/target.h"
#include "cli/ranks.h"
#include "media/medium.h"

namespace hone::cli {

void EngineOptions::add(CLI::Option_group* group, const std::string& ranks, const std::string& option,
                        const std::string& shared) {
  constexpr CountRange range = {.least = 1, .most = 4096};
  if (!ranks.empty())
    add_count_or(group, "--parallel", parallel, parts, "COUNT|KIND:RANKS",
                 fmt::format("With {}, a number: texts that are written at once. Without it, a kind and a number: how "
                             "ranks that mpirun starts divide the model, {}",
                             option, ranks),
                 range);
  else
    add_count(group, "--parallel", parallel, "Texts that are written at once", range);
  add_count(
      group, "--cache-tokens", cache_tokens,
      "Tokens that the cache of keys and values holds, of all texts together; 0: as many as --parallel texts need" +
          shared);
  add_count(group, "--page", page, "Tokens of a page of it: a multiple of 64", {.least = 64, .most = 1 << 20});
  group->add_flag("--no-reuse", no_reuse, "Read every prompt whole, whatever of it is in the cache");
  std::string orders;
  std::vector<std::string> names;
  for (const ServiceOrder& row : service_orders()) {
    orders += fmt::format("{}{}, {}", orders.empty() ? "" : "; ", row.name, row.what);
    names.emplace_back(row.name);
  }
  group->add_option("--order", order, "Who is served first: " + orders)->check(one_of(names));
}

void EngineOptions::check() const {
  if (page % kernels::attention_block)
    throw usage_error("--page {} is no multiple of {}, which the kernels' tiles need", page, kernels::attention_block);
}

EngineSettings EngineOptions::settings() const {
  EngineSettings s;
  s.parallel = parallel;
  s.cache_tokens = cache_tokens;
  s.page_rows = page;
  s.reuse = !no_reuse;
  s.order = &service_order(order);
  return s;
}

void BatchOptions::add(CLI::App& app) {
  auto* group = app.add_option_group("Batch", "Many prompts from a file, many at once");
  auto* from = group->add_option(
      "--input", input,
      "Read requests from a file (- is standard input), a JSON object a line: prompt or parts, and what "
      "replaces options");
  from->type_name("FILE");
  group->add_option("--output", output, "Write the texts there, an object a line; an interrupted run goes on")
      ->type_name("FILE");
  group->add_flag("--ordered", ordered, "Write the texts in the order of the requests, not as they are finished");
  add_count(group, "--logprobs", logprobs,
            "Write the log-probability of every token, and of this many of the most probable ones", {.most = 100});
  engine.add(group, parallel_parts_forms(), "--input");
  // Depth is one way of a text: an engine has all layers for all of them.
  for (const char* other : {"--prompt", "--prompt-file", "--lines", "--echo", "--format", "--stats", "--exit",
                            "--max-depth", "--exit-fill", "--report"})
    from->excludes(app.get_option(other));
  for (const Medium* medium : all_media()) from->excludes(app.get_option(fmt::format("--{}", medium->name)));
}

void BatchOptions::check() const {
  if (input.empty() != output.empty())
    throw usage_error("{} needs {}: requests come from the one file, texts go to the other",
                      input.empty() ? "--output" : "--input", input.empty() ? "--input" : "--output");
  if (given()) require_distinct({{"--output", output}}, {{"--input", input}});
  engine.check();
}

std::vector<Idle> BatchOptions::idle() const {
  std::vector<Idle> all;
  for (const char* option : {"--ordered", "--logprobs", "--cache-tokens", "--page", "--no-reuse", "--order"})
    all.push_back({option, !given(), "without --input"});
  all.push_back({"--parallel", !given() && engine.parts.empty(), "without --input"});
  return all;
}

}  // namespace hone::cli
