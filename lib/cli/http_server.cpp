#include "cli/http_server.h"

#include <atomic>
#include <charconv>
#include <ctime>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/http_connections.h"
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

  // The whole answer, once all is there: what went wrong until then is its status.
  void give(httplib::Response& response) {
    for (;;) {
      const State state = gather(nullptr);
      if (state == State::gone) return;
      if (state == State::failed) return refuse(response, *failure_);
      if (state == State::done) break;
    }
    Json choices = Json::array();
    for (const Choice& c : choices_) choices.push_back(c.whole);
    Json answer = answer_.object(choices);
    answer["usage"] = usage();
    response.set_content(text_of(answer), "application/json");
  }

  // A stream: called until it has ended the answer; false closes the connection.
  bool write(httplib::DataSink& sink) {
    switch (gather(&sink)) {
      case State::going:
        return true;
      case State::gone:
        return false;
      case State::done:
        return finish(sink);
      case State::failed:
        break;
    }
    if (!put(sink, "data: " + text_of(openai::json_of(*failure_)) + "\n\n")) return false;
    sink.done();
    return true;
  }

 private:
  enum class State { going, done, failed, gone };

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

  // Waits a little for news of any choice, and tells a stream (`sink`) of them.
  State gather(httplib::DataSink* sink) {
    double wait = 0.05;
    bool all = true;
    for (size_t i = 0; i < choices_.size(); ++i) {
      if (choices_[i].ended) continue;
      if (!read(i, wait, sink)) return State::gone;
      all = all && choices_[i].ended;
      wait = 0;
    }
    if (failure_) return State::failed;
    if (all) return State::done;
    if (timeout_ > 0 && watch_.seconds() > timeout_) {
      failure_ = Refusal{504, fmt::format("the request took more than {} seconds", timeout_), "", "timeout"};
      return State::failed;
    }
    return BoundedServer::alive() ? State::going : State::gone;
  }

  bool read(size_t i, double wait, httplib::DataSink* sink) {
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
    return !sink || scores_prompt() || text.empty() ||
           send(*sink, openai::choice(index(i), text, logprobs(c, false), nullptr));
  }

  // `text`: what no event has told.
  bool end(size_t i, const Completion& result, const std::string& text, httplib::DataSink* sink) {
    Choice& c = choices_[i];
    c.ended = true;
    c.result = result;
    if (result.finish == Finish::failed)
      failure_ = Refusal{500, "the model gives numbers that are not finite", "", ""};
    else if (result.finish == Finish::interrupted)
      failure_ = Refusal{503, "the server is being shut down", "", ""};
    if (failure_) return true;
    if (scores_prompt()) {
      if (const auto& ids = asked_.tokens[prompt_of(i)]; !ids.empty()) c.logprobs.add_first(ids.front());
      c.logprobs.add(result.prompt_scores);
      c.logprobs.end_prompt();
    }
    c.logprobs.add({result.scores.begin() + c.told, result.scores.end()});
    const bool at_once = !sink || scores_prompt();
    const Json whole = openai::choice(index(i), at_once ? c.text : text, logprobs(c, result.finish != Finish::stop),
                                      openai::finish_reason(result.finish));
    if (sink) return send(*sink, whole);
    c.whole = whole;
    return true;
  }

  int64_t index(size_t i) const { return static_cast<int64_t>(i); }
  // Of tokens that begin in the text so far; `all`: and of those behind it.
  Json logprobs(Choice& c, bool all) const {
    return asked_.logprobs >= 0 ? c.logprobs.take(all ? std::nullopt : std::optional(c.text)) : Json();
  }

  bool send(httplib::DataSink& sink, const Json& one) {
    Json event = answer_.object(Json::array({one}));
    if (asked_.usage_in_stream) event["usage"] = nullptr;
    return put(sink, "data: " + text_of(event) + "\n\n");
  }

  bool finish(httplib::DataSink& sink) {
    Json last = answer_.object(Json::array());
    last["usage"] = usage();
    if (asked_.usage_in_stream && !put(sink, "data: " + text_of(last) + "\n\n")) return false;
    if (!put(sink, "data: [DONE]\n\n")) return false;
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
  std::optional<Refusal> failure_;
};

std::string metrics(const EngineStats& s, int64_t requests, int64_t waiting) {
  std::string text;
  const auto add = [&](const char* name, const char* kind, const char* help, auto value) {
    text += fmt::format("# HELP hone_{0} {2}\n# TYPE hone_{0} {1}\nhone_{0} {3}\n", name, kind, help, value);
  };
  add("requests_total", "counter", "Requests for completions that came whole.", requests);
  add("texts_total", "counter", "Texts that were asked for: n of each prompt of a request.", s.requests);
  add("texts_finished_total", "counter", "Texts that were written.", s.finished);
  add("texts_cancelled_total", "counter", "Texts that nobody wanted any more.", s.cancelled);
  add("texts_running", "gauge", "Texts that are being written.", s.running);
  add("texts_waiting", "gauge", "Texts that have not begun.", waiting);
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

// What the header says that the body has; 0 where it does not say.
uint64_t announced_bytes(const httplib::Request& request) {
  const std::string text = request.get_header_value("Content-Length");
  uint64_t bytes = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  return failure == std::errc::result_out_of_range ? UINT64_MAX : bytes;
}

ConnectionLimits limits_of(const HttpSettings& s) {
  ConnectionLimits limits;
  limits.connections = s.connections;
  limits.body_bytes = 2 * std::min(s.max_body, INT64_MAX / 4) +
                      limits.header_bytes;  // chunks of a body have their lengths between them
  return limits;
}

}  // namespace

class HttpServer::Implementation {
 public:
  Implementation(Service& service, const Tokenizer& tokenizer, const PromptReader& prompts,
                 const HttpSettings& settings)
      : service_(service),
        tokenizer_(tokenizer),
        prompts_(prompts),
        s_(settings),
        limits_(limits_of(settings)),
        server_(limits_) {
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
    server_.end(limits_.write_seconds);
    thread_.join();
  }
  int port() const { return port_; }

 private:
  static constexpr const char* completions = "/v1/completions";

  // Refuses what would be refused whatever its body says, before any of it is read.
  httplib::Server::HandlerResponse before(const httplib::Request& request, httplib::Response& response) {
    const bool body = request.method != "GET" && request.method != "HEAD" && request.method != "OPTIONS";
    const std::string encoding = request.get_header_value("Content-Encoding");
    std::optional<Refusal> wrong;
    if (BoundedServer::beyond())
      wrong = {503, fmt::format("{} connections are served already; try again later", s_.connections), "",
               "too_many_connections"};
    else if (!s_.key.empty() && request.path != "/health" &&
             !same_key(request.get_header_value("Authorization"), "Bearer " + s_.key))
      wrong = {401, "a key is needed: Authorization: Bearer KEY", "", "invalid_api_key"};
    else if (!body)
      return httplib::Server::HandlerResponse::Unhandled;
    else if (request.method != "POST" || request.path != completions)
      wrong = nothing_at(request);
    else if (!encoding.empty() && encoding != "identity")
      wrong = {415, fmt::format("the body is sent with the encoding '{}': send it as it is", encoding), "", ""};
    else if (request.is_multipart_form_data())
      wrong = {415, "the body is multipart/form-data: send JSON", "", ""};
    else if (announced_bytes(request) > static_cast<uint64_t>(s_.max_body))
      wrong = too_large();
    if (!wrong) return httplib::Server::HandlerResponse::Unhandled;
    refuse(response, *wrong);
    if (body) close_after(response);
    return httplib::Server::HandlerResponse::Handled;
  }

  static void close_after(httplib::Response& response) {
    response.set_header("Connection", "close");
    BoundedServer::close_after();
  }
  static Refusal nothing_at(const httplib::Request& request) {
    return {404, fmt::format("there is nothing at {} {}", request.method, request.path), "", ""};
  }
  Refusal too_large() const { return {413, fmt::format("the body is larger than {} bytes", s_.max_body), "", ""}; }
  Refusal too_late() const {
    return {408, fmt::format("the request was not whole after {} seconds", limits_.request_seconds), "", ""};
  }

  void routes() {
    server_.set_pre_routing_handler(
        [this](const httplib::Request& request, httplib::Response& response) { return before(request, response); });
    server_.Get("/health", [this](const httplib::Request&, httplib::Response& response) {
      const bool draining = service_.draining();
      response.status = draining ? 503 : 200;
      response.set_content(text_of({{"status", draining ? "draining" : "ok"}}), "application/json");
    });
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(metrics(service_.stats(), requests_, service_.waiting()), "text/plain; version=0.0.4");
    });
    server_.Get("/v1/models", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(text_of({{"object", "list"}, {"data", Json::array({model()})}}), "application/json");
    });
    server_.Get(R"(/v1/models/(.+))", [this](const httplib::Request& request, httplib::Response& response) {
      if (request.matches[1] == s_.model) return response.set_content(text_of(model()), "application/json");
      refuse(response,
             {404, fmt::format("there is no model '{}'", request.matches[1].str()), "model", "model_not_found"});
    });
    server_.Post(completions, [this](const httplib::Request& request, httplib::Response& response,
                                     const httplib::ContentReader& content) {
      if (const std::optional<std::string> body = read_body(request, response, content)) complete(*body, response);
    });
    server_.set_error_handler([this](const httplib::Request& request, httplib::Response& response) {
      if (!response.body.empty()) return;
      const int status = response.status;
      refuse(response, status == 404            ? nothing_at(request)
                       : BoundedServer::late()  ? too_late()
                       : BoundedServer::large() ? Refusal{431, "the headers are too large", "", ""}
                                                : Refusal{status,
                                                          fmt::format("this is no request that can be "
                                                                      "served (HTTP {})",
                                                                      status),
                                                          "", ""});
      if (status != 404) close_after(response);
    });
    server_.set_exception_handler([](const httplib::Request&, httplib::Response& response, auto&&...) {
      refuse(response, {500, "something went wrong here", "", ""});
    });
  }

  Json model() const { return {{"id", s_.model}, {"object", "model"}, {"created", started_}, {"owned_by", "hone"}}; }

  // Whatever its type is said to be (curl -d says that it is a form). Of a body that is too large or not whole only the
  // refusal is left.
  std::optional<std::string> read_body(const httplib::Request& request, httplib::Response& response,
                                       const httplib::ContentReader& content) {
    std::string body;
    bool large = false;
    const bool none = !request.has_header("Content-Length") && !request.has_header("Transfer-Encoding");
    const bool whole = none || content([&](const char* data, size_t size) {
                         large = body.size() + size > static_cast<size_t>(s_.max_body);
                         if (!large) body.append(data, size);
                         return !large;
                       });
    BoundedServer::request_whole();
    if (whole && !large) return body;
    refuse(response, large || BoundedServer::large() ? too_large()
                     : BoundedServer::late()         ? too_late()
                                                     : Refusal{400, "the body is not whole", "", ""});
    close_after(response);
    return std::nullopt;
  }

  // Before anything is made for each text: that all could be taken in, were the queue empty.
  void require_possible(const openai::Completions& asked) const {
    const int64_t texts = static_cast<int64_t>(asked.tokens.size()) * asked.choices;
    if (texts > service_.queue())
      throw Refusal{400,
                    fmt::format("{} texts are more than may wait, {}; ask for fewer at once", texts, service_.queue()),
                    asked.choices > 1 ? "n" : "prompt", "too_many_texts"};
    Request one = asked.all;
    for (const std::vector<int32_t>& ids : asked.tokens) {
      one.prompt = ids;
      service_.check(one);
    }
  }

  static openai::Refusal full_queue() {
    return {429, "too many requests wait already; try again later", "", "queue_full"};
  }

  void complete(const std::string& body, httplib::Response& response) try {
    const int64_t number = ++requests_;
    // Images and sounds are decoded before it is known how many texts are asked for: not where there is room for none.
    if (!service_.draining() && service_.waiting() >= service_.queue()) return refuse(response, full_queue());
    openai::Completions asked = openai::read_completions(body, s_.model, tokenizer_, prompts_,
                                                         mix64(s_.seed ^ (static_cast<uint64_t>(number) << 32)));
    require_possible(asked);
    std::optional<Service::Refusal> refusal;
    auto tickets = service_.submit(asked.requests(), refusal);
    if (refusal == Service::Refusal::full) return refuse(response, full_queue());
    if (refusal) return refuse(response, {503, "the server is being shut down", "", ""});
    const bool stream = asked.stream;
    const openai::Answer answer{fmt::format("cmpl-{}", number), s_.model, std::time(nullptr)};
    auto reply = std::make_shared<Reply>(std::move(asked), std::move(tickets), answer, tokenizer_, s_.timeout);
    if (!stream) return reply->give(response);
    response.set_chunked_content_provider("text/event-stream",
                                          [reply](size_t, httplib::DataSink& sink) { return reply->write(sink); });
  } catch (const openai::Refusal& wrong) {
    refuse(response, wrong);
  } catch (const Error& error) {
    refuse(response, {400, error.what(), "", error.kind() == ErrorKind::input ? "context_length_exceeded" : ""});
  }

  Service& service_;
  const Tokenizer& tokenizer_;
  const PromptReader& prompts_;
  const HttpSettings s_;
  const ConnectionLimits limits_;
  BoundedServer server_;
  std::thread thread_;
  std::atomic<int64_t> requests_ = 0;
  int64_t started_ = std::time(nullptr);
  int port_ = -1;
};

HttpServer::HttpServer(Service& service, const Tokenizer& tokenizer, const PromptReader& prompts,
                       const HttpSettings& settings)
    : implementation_(std::make_unique<Implementation>(service, tokenizer, prompts, settings)) {}

HttpServer::~HttpServer() = default;

int HttpServer::port() const {
  return implementation_->port();
}

}  // namespace hone::cli
