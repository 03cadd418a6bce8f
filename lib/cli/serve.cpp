#include "cli/serve.h"

#include <csignal>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/spelling.h"
#include "base/stop.h"
#include "base/units.h"
#include "cli/batch_options.h"
#include "cli/http_server.h"
#include "cli/low_bit.h"
#include "cli/precision.h"
#include "cli/tool.h"
#include "measure/speed.h"
#include "model/verify_groups.h"

namespace hone::cli {
namespace {

struct ServeOptions {
  std::string model, host = "127.0.0.1", name, key_file, precision = "auto";
  int64_t port = 8080, queue = 1024, max_body = 4 << 20, connections = 256, chunk = EngineSettings().chunk,
          busy_chunk = EngineSettings().busy_chunk;
  double timeout = 0, drain = 60;
  EngineOptions engine;
  LowBitOptions low_bit;

  void add(CLI::App& app) {
    app.add_option("MODEL", model, "Model file")->required();
    auto* address = app.add_option_group("Address");
    address->add_option("--host", host, "Address to listen at; 0.0.0.0: all of this machine's")->type_name("ADDRESS");
    add_count(address, "--port", port, "Port; 0: any that is free", {.most = 65535});
    address->add_option("--name", name, "Name of the model in requests; without it, that of its file without .h5")
        ->type_name("NAME");
    address->add_option("--key-file", key_file, "Serve only who brings the key that this file's first line is")
        ->type_name("FILE");
    auto* limits = app.add_option_group("Limits");
    add_count(limits, "--queue", queue, "Texts that may wait; more get HTTP 429", {.least = 1, .most = 1 << 20});
    add_bytes(limits, "--max-body", max_body, "Size of a request; larger ones get HTTP 413");
    add_count(limits, "--connections", connections, "Connections that are served at once; others get HTTP 503",
              {.least = 1, .most = 16384});
    add_number(limits, "--timeout", timeout, "Seconds that a request may take; 0: any", {.least = 0});
    add_number(limits, "--drain", drain, "Seconds that texts may take once the server is told to stop; 0: any",
               {.least = 0});
    auto* batch = app.add_option_group("Batch");
    engine.add(batch, "");
    add_count(batch, "--prefill-chunk", chunk, "Tokens of a prompt in a step while nothing is written", size_range);
    add_count(batch, "--busy-chunk", busy_chunk, "Tokens of a prompt in a step beside texts that are written",
              size_range);
    auto* execution = app.add_option_group("Execution");
    add_precision(execution, precision);
    low_bit.add(execution);
  }
};

std::string read_key(const std::string& path) {
  std::string key = read_text_file(path);
  key = key.substr(0, key.find_first_of("\r\n"));
  if (key.empty()) throw input_error("'{}' has no key in its first line", path);
  return key;
}

int run_serve(const ServeOptions& o, const Common& common) {
  o.engine.check();
  o.low_bit.check(o.precision);
  EngineSettings settings = o.engine.settings();
  settings.chunk = o.chunk;
  settings.busy_chunk = o.busy_chunk;
  settings.type = type_of(o.precision);
  settings.code = o.low_bit.code();
  HttpSettings http;
  http.host = o.host;
  http.port = o.port;
  http.model = o.name.empty() ? std::filesystem::path(o.model).stem().string() : o.name;
  if (!o.key_file.empty()) http.key = read_key(o.key_file);
  http.max_body = o.max_body;
  http.connections = o.connections;
  http.timeout = o.timeout;
  http.seed = common.seed;

  Model model = load_model(o.model, {.defer = true});
  verify_in_groups(model);
  set_rounding(model, o.low_bit.rounding(o.precision));
  const auto tokenizer = make_tokenizer(model.tokenizer);
  o.low_bit.tell_of_activations(weight_forms(*model.transformer));
  Engine engine(*model.transformer, *tokenizer, settings);
  const EngineStats s = engine.stats();
  if (common.dry_run) {
    log_info("would serve '{}' as {} at {} port {}", o.model, http.model, o.host, o.port);
    return 0;
  }
  std::signal(SIGPIPE, SIG_IGN);  // a connection that is closed is an error of a write
  Service service(engine, o.queue);
  // What a text cannot be long enough for is not decoded either.
  const PromptReader prompts(model.transformer->config(), *tokenizer, engine.settings().capacity);
  {
    const HttpServer server(service, *tokenizer, prompts, http);
    const bool colons = o.host.find(':') != std::string::npos;  // an address of IPv6, which has its own
    log_info("serving {} at http://{}:{}: {} at once, {} tokens of cache in pages of {}", http.model,
             colons ? fmt::format("[{}]", o.host) : o.host, server.port(), counted(engine.settings().parallel, "text"),
             s.pages * engine.settings().page_rows, engine.settings().page_rows);
    const int64_t dropped = service.run(o.drain);
    if (dropped > 0)
      log_warning("{} given up: not finished {} after the server was told to stop", counted(dropped, "text"),
                  format_duration(o.drain));
    else
      log_info("what had begun is finished");
  }
  const EngineStats end = engine.stats();
  log_info("{}: {} finished, {} dropped; {} written", counted(end.requests, "text"), end.finished, end.cancelled,
           counted(end.decoded_tokens, "token"));
  check_stop();
  return 0;
}

}  // namespace

int serve(int argc, char** argv) {
  const Tool tool = {.name = "serve",
                     .example =
                         "  serve small.h5 --port 8080 &\n"
                         "  curl localhost:8080/v1/completions -d '{\"prompt\": \"In the beginning\"}'\n",
                     .setup = [](CLI::App& app, const Common& common) -> std::function<int()> {
                       auto options = std::make_shared<ServeOptions>();
                       options->add(app);
                       return [options, &common] { return run_serve(*options, common); };
                     }};
  return run_tool(tool, argc, argv);
}

}  // namespace hone::cli
