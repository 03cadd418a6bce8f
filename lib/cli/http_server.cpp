#include "cli/http_server.h"

#include <httplib.h>

#include <atomic>
#include <ctime>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "serve/openai.h"

namespace hone::cli {
namespace {

using openai::Json;
using openai::Refusal;

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void refuse(httplib::Response& response, const Refusal& refusal) {
  response.status = refusal.status;
  response.set_content(text_of(openai::json_of(refusal)), "application/json");
}

// In the same time for every wrong key.
bool same_key(const std::string& given, const std::string& wanted) {
  unsigned different = given.size() != wanted.size();
  for (size_t i = 0; i < given.size(); ++i)
    different |= static_cast<unsigned>(given[i] ^ wanted[i % std::max<size_t>(1, wanted.size())]);
  return different == 0;
}

// One answer on its way: what its connection's thread writes, from what the engine's brings.
class Reply {
 public:
  Reply(openai::Completions asked, std::vector<std::shared_ptr<Ticket>> tickets, openai::Answer answer,
        const Tokenizer& tokenizer, double timeout)
      : asked_(std::move(asked)), tickets_(std::move(tickets)), answer_(std::move(answer)), timeout_(timeout) {
    for (size_t i = 0; i < tickets_.size(); ++i) choices_.emplace_back(tokenizer, asked_.logprobs);
  }
  // Whoever asked is gone, or has all.
  ~Reply() {
    for (const auto& ticket : tickets_) ticket->cancel();
  }
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;

  // Called until it has ended the answer; false closes the connection.
  bool write(httplib::DataSink& sink) {
    double wait = 0.05;
    bool all = true;
    for (size_t i = 0; i < choices_.size(); ++i) {
      if (!choices_[i].ended && !read(i, wait, sink)) return false;
      all = all && choices_[i].ended;
      wait = 0;
    }
    if (!failure_.empty()) return fail(sink);
    if (all) return finish(sink);
    if (timeout_ > 0 && watch_.seconds() > timeout_) {
      failure_ = fmt::format("the request took more than {} seconds", timeout_);
      return fail(sink);
    }
    return !sink.is_writable || sink.is_writable();  // whoever closed the connection wants nothing any more
  }

 private:
  struct Choice {
    Choice(const Tokenizer& tokenizer, int64_t top) : logprobs(tokenizer, top) {}
    openai::LogprobsText logprobs;
    std::string text;
    bool echoed = false, ended = false;
    int64_t told = 0;  // scores
    Completion result;
    Json whole;  // where nothing is streamed
  };

  bool scores_prompt() const { return asked_.echo && asked_.logprobs >= 0; }
  size_t prompt_of(size_t i) const { return i / static_cast<size_t>(asked_.choices); }

  bool read(size_t i, double wait, httplib::DataSink& sink) {
    Choice& c = choices_[i];
    std::string text;
    if (asked_.echo && !std::exchange(c.echoed, true)) text = asked_.prompts[prompt_of(i)];
    while (const std::optional<Ticket::Piece> piece = tickets_[i]->next(text.empty() ? wait : 0)) {
      text += piece->text;
      if (scores_prompt()) continue;  // those of the prompt come before them
      c.logprobs.add(piece->scores);
      c.told += static_cast<int64_t>(piece->scores.size());
    }
    c.text += text;
    if (const std::optional<Completion> result = tickets_[i]->result()) return end(i, *result, text, sink);
    return !asked_.stream || scores_prompt() || text.empty() ||
           send(sink, openai::choice(index(i), text, logprobs(c), nullptr));
  }

  // `text`: what no event has told.
  bool end(size_t i, const Completion& result, const std::string& text, httplib::DataSink& sink) {
    Choice& c = choices_[i];
    c.ended = true;
    c.result = result;
    if (result.finish == Finish::failed) failure_ = "the model gives numbers that are not finite";
    if (scores_prompt()) {
      if (const auto& ids = asked_.tokens[prompt_of(i)]; !ids.empty()) c.logprobs.add_first(ids.front());
      c.logprobs.add(result.prompt_scores);
    }
    c.logprobs.add({result.scores.begin() + c.told, result.scores.end()});
    const bool at_once = !asked_.stream || scores_prompt();
    const Json whole =
        openai::choice(index(i), at_once ? c.text : text, logprobs(c), openai::finish_reason(result.finish));
    if (asked_.stream) return send(sink, whole);
    c.whole = whole;
    return true;
  }

  int64_t index(size_t i) const { return static_cast<int64_t>(i); }
  Json logprobs(Choice& c) const { return asked_.logprobs >= 0 ? c.logprobs.take() : Json(); }

  bool send(httplib::DataSink& sink, const Json& one) {
    Json event = answer_.object(Json::array({one}));
    if (asked_.usage_in_stream) event["usage"] = nullptr;
    return put(sink, "data: " + text_of(event) + "\n\n");
  }

  bool finish(httplib::DataSink& sink) {
    Json choices = Json::array();
    if (asked_.stream) {
      Json last = answer_.object(choices);
      last["usage"] = usage();
      if (asked_.usage_in_stream && !put(sink, "data: " + text_of(last) + "\n\n")) return false;
      if (!put(sink, "data: [DONE]\n\n")) return false;
    } else {
      for (const Choice& c : choices_) choices.push_back(c.whole);
      Json answer = answer_.object(choices);
      answer["usage"] = usage();
      if (!put(sink, text_of(answer))) return false;
    }
    sink.done();
    return true;
  }

  bool fail(httplib::DataSink& sink) {
    const std::string error = text_of(openai::json_of({500, failure_, "", ""}));
    if (!put(sink, asked_.stream ? "data: " + error + "\n\n" : error)) return false;
    sink.done();
    return true;
  }

  static bool put(httplib::DataSink& sink, const std::string& text) { return sink.write(text.data(), text.size()); }

  // Each prompt counts once, as it does at OpenAI.
  Json usage() const {
    int64_t prompt = 0, completion = 0, cached = 0;
    for (size_t i = 0; i < choices_.size(); ++i) {
      const Completion& c = choices_[i].result;
      completion += static_cast<int64_t>(c.tokens.size());
      if (i % static_cast<size_t>(asked_.choices)) continue;
      prompt += c.prompt_tokens;
      cached += c.cached_tokens;
    }
    return openai::usage(prompt, completion, cached);
  }

  openai::Completions asked_;
  std::vector<std::shared_ptr<Ticket>> tickets_;
  openai::Answer answer_;
  double timeout_;
  Stopwatch watch_;
  std::vector<Choice> choices_;
  std::string failure_;
};

std::string metrics(const EngineStats& s, int64_t waiting) {
  std::string text;
  const auto add = [&](const char* name, const char* kind, const char* help, auto value) {
    text += fmt::format("# HELP hone_{0} {2}\n# TYPE hone_{0} {1}\nhone_{0} {3}\n", name, kind, help, value);
  };
  add("requests_total", "counter", "Requests that came.", s.requests);
  add("requests_finished_total", "counter", "Requests that got their text.", s.finished);
  add("requests_cancelled_total", "counter", "Requests that nobody wanted any more.", s.cancelled);
  add("requests_running", "gauge", "Texts that are being written.", s.running);
  add("requests_waiting", "gauge", "Requests that have not begun.", waiting);
  add("generated_tokens_total", "counter", "Tokens written.", s.decoded_tokens);
  add("prompt_tokens_total", "counter", "Tokens of prompts that were read.", s.prompt_tokens);
  add("cached_tokens_total", "counter", "Tokens of prompts that were in the cache.", s.cached_tokens);
  add("repeated_tokens_total", "counter", "Tokens that were read again after a preemption.", s.repeated_tokens);
  add("preemptions_total", "counter", "Texts that gave their pages back for others.", s.preemptions);
  add("steps_total", "counter", "Steps of the engine.", s.steps);
  add("model_seconds_total", "counter", "Seconds in the model.", s.model_seconds);
  add("engine_seconds_total", "counter", "Seconds of steps around the model.", s.own_seconds);
  add("pages", "gauge", "Pages of keys and values.", s.pages);
  add("pages_in_use", "gauge", "Pages of texts that are being written.", s.pages_in_use);
  add("pages_free", "gauge", "Pages that hold nothing.", s.pages_free);
  return text;
}

}  // namespace

class HttpServer::Implementation {
 public:
  Implementation(Service& service, const Tokenizer& tokenizer, const HttpSettings& settings)
      : service_(service), tokenizer_(tokenizer), s_(settings) {
    const auto threads = static_cast<size_t>(s_.connections);
    server_.new_task_queue = [threads] { return new httplib::ThreadPool(threads); };
    server_.set_payload_max_length(static_cast<size_t>(s_.max_body));
    server_.set_keep_alive_timeout(2);
    server_.set_read_timeout(10);
    server_.set_write_timeout(10);  // of one piece: who reads more slowly is dropped
    server_.set_tcp_nodelay(true);
    routes();
    port_ = static_cast<int>(s_.port);
    // Two servers on one port are a mistake: the option by which the library would allow it is left out.
    server_.set_socket_options([](socket_t socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    if (port_ == 0)
      port_ = server_.bind_to_any_port(s_.host);
    else if (!server_.bind_to_port(s_.host, port_))
      port_ = -1;
    if (port_ < 0)
      throw input_error(
          "cannot listen at {} port {}: it is in use, or not this machine's; choose another --port or --host", s_.host,
          s_.port);
    thread_ = std::thread([this] { server_.listen_after_bind(); });
  }
  ~Implementation() {
    server_.stop();
    thread_.join();
  }
  int port() const { return port_; }

 private:
  void routes() {
    server_.set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      if (s_.key.empty() || request.path == "/health" ||
          same_key(request.get_header_value("Authorization"), "Bearer " + s_.key))
        return httplib::Server::HandlerResponse::Unhandled;
      refuse(response, {401, "a key is needed: Authorization: Bearer KEY", "", "invalid_api_key"});
      return httplib::Server::HandlerResponse::Handled;
    });
    server_.Get("/health", [this](const httplib::Request&, httplib::Response& response) {
      const bool draining = service_.draining();
      response.status = draining ? 503 : 200;
      response.set_content(text_of({{"status", draining ? "draining" : "ok"}}), "application/json");
    });
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(metrics(service_.stats(), service_.waiting()), "text/plain; version=0.0.4");
    });
    server_.Get("/v1/models", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(text_of({{"object", "list"}, {"data", Json::array({model()})}}), "application/json");
    });
    server_.Get(R"(/v1/models/(.+))", [this](const httplib::Request& request, httplib::Response& response) {
      if (request.matches[1] == s_.model) return response.set_content(text_of(model()), "application/json");
      refuse(response,
             {404, fmt::format("there is no model '{}'", request.matches[1].str()), "model", "model_not_found"});
    });
    server_.Post("/v1/completions",
                 [this](const httplib::Request& request, httplib::Response& response) { complete(request, response); });
    server_.set_error_handler([this](const httplib::Request& request, httplib::Response& response) {
      if (!response.body.empty()) return;
      const int status = response.status;
      refuse(response, {status,
                        status == 413   ? fmt::format("the body is larger than {} bytes", s_.max_body)
                        : status == 404 ? fmt::format("there is nothing at {} {}", request.method, request.path)
                                        : fmt::format("this is no request that can be served (HTTP {})", status),
                        "", ""});
    });
    server_.set_exception_handler([](const httplib::Request&, httplib::Response& response, auto&&...) {
      refuse(response, {500, "something went wrong here", "", ""});
    });
  }

  Json model() const { return {{"id", s_.model}, {"object", "model"}, {"created", started_}, {"owned_by", "hone"}}; }

  void complete(const httplib::Request& request, httplib::Response& response) try {
    const int64_t number = ++requests_;
    openai::Completions asked = openai::read_completions(request.body, s_.model, tokenizer_,
                                                         mix64(s_.seed ^ (static_cast<uint64_t>(number) << 32)));
    std::optional<Service::Refusal> refusal;
    auto tickets = service_.submit(asked.requests(), refusal);
    if (refusal == Service::Refusal::full)
      return refuse(response, {429, "too many requests wait already; try again later", "", "queue_full"});
    if (refusal) return refuse(response, {503, "the server is being shut down", "", ""});
    const bool stream = asked.stream;
    const openai::Answer answer{fmt::format("cmpl-{}", number), s_.model, std::time(nullptr)};
    auto reply = std::make_shared<Reply>(std::move(asked), std::move(tickets), answer, tokenizer_, s_.timeout);
    response.set_chunked_content_provider(stream ? "text/event-stream" : "application/json",
                                          [reply](size_t, httplib::DataSink& sink) { return reply->write(sink); });
  } catch (const openai::Refusal& wrong) {
    refuse(response, wrong);
  } catch (const Error& error) {
    refuse(response, {400, error.what(), "", error.kind() == ErrorKind::input ? "context_length_exceeded" : ""});
  }

  Service& service_;
  const Tokenizer& tokenizer_;
  HttpSettings s_;
  httplib::Server server_;
  std::thread thread_;
  std::atomic<int64_t> requests_ = 0;
  int64_t started_ = std::time(nullptr);
  int port_ = -1;
};

HttpServer::HttpServer(Service& service, const Tokenizer& tokenizer, const HttpSettings& settings)
    : implementation_(std::make_unique<Implementation>(service, tokenizer, settings)) {}

HttpServer::~HttpServer() = default;

int HttpServer::port() const {
  return implementation_->port();
}

}  // namespace hone::cli
