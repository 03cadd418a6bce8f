// A service over HTTP, in the form of OpenAI's completions.                                              cpp-httplib
#pragma once

#include <memory>
#include <string>

#include "dataset/tokenizer.h"
#include "serve/prompt.h"
#include "serve/service.h"

namespace hone::cli {

struct HttpSettings {
  std::string host = "127.0.0.1";
  int64_t port = 8080;   // 0: any that is free
  std::string model;     // the name that it goes by
  std::string key;       // that a request must bring; empty: none
  int64_t max_body = 0;  // bytes of a request
  int64_t connections = 0;
  double timeout = 0;  // seconds that a request may take; 0: any
  uint64_t seed = 1;   // of requests without one, with their number
};

// Listens while it lives, with threads of its own. /v1/completions, /v1/models, /health, /metrics.
class HttpServer {
 public:
  // Throws Error(input) where the address cannot be had.
  HttpServer(Service& service, const Tokenizer& tokenizer, const PromptReader& prompts, const HttpSettings& settings);
  ~HttpServer();  // after the answers that are on their way
  int port() const;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace hone::cli
