#include "c/hone.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/threads.h"
#include "base/version.h"
#include "dataset/tokenizer.h"
#include "kernels/gemm/gemm.h"
#include "kernels/parallel.h"
#include "model/session.h"
#include "model/store.h"

namespace {

struct Loaded {
  hone::Model model;
  std::shared_ptr<const hone::Tokenizer> tokenizer;
  const hone::Transformer& transformer() const { return *model.transformer; }
};

thread_local std::string error_text;

int failed(int status, const char* what) {
  try {
    error_text = hone::one_line(what, 400);
  } catch (...) {
    error_text.clear();
  }
  return status;
}

// What `f` returns, or of what it throws the status.
template <class F>
int64_t guarded(F&& f) {
  try {
    return f();
  } catch (const hone::Error& error) {
    const int status = -error.exit_status();
    return failed(status == HONE_USAGE || status == HONE_INPUT ? status : HONE_INTERNAL, error.what());
  } catch (const std::bad_alloc&) {
    return failed(HONE_INTERNAL, "not enough memory");
  } catch (const std::exception& error) {
    return failed(HONE_INTERNAL, error.what());
  } catch (...) {
    return failed(HONE_INTERNAL, "an unknown failure");
  }
}

template <class T>
T& given(T* pointer, const char* what) {
  if (!pointer) throw hone::usage_error("{} is NULL", what);
  return *pointer;
}

template <class T>
std::span<T> span_of(T* data, int64_t count, const char* what) {
  if (count < 0) throw hone::usage_error("{} items of {}", count, what);
  if (count > 0) given(data, what);
  return {data, static_cast<size_t>(count)};
}

std::once_flag threads_chosen;

void choose_threads_once() {
  std::call_once(threads_chosen, [] { hone::kernels::set_threads(hone::choose_threads(0).count); });
}

// Copies what there is room for; the number of all.
template <class From, class To>
int64_t copy_first(const From& all, std::span<To> room) {
  std::copy_n(all.begin(), std::min(all.size(), room.size()), room.begin());
  return static_cast<int64_t>(all.size());
}

}  // namespace

struct hone_model {
  std::shared_ptr<const Loaded> loaded;
};

struct hone_session {
  std::shared_ptr<const Loaded> loaded;
  hone::Session session;

  void check(std::span<const int32_t> ids) const {
    if (ids.empty()) throw hone::usage_error("no tokens to feed");
    const int64_t vocabulary = loaded->transformer().config().vocabulary;
    for (const int32_t id : ids)
      if (id < 0 || id >= vocabulary)
        throw hone::usage_error("the token {} is outside the vocabulary of {}", id, vocabulary);
    const int64_t after = session.length() + static_cast<int64_t>(ids.size());
    if (after > session.capacity())
      throw hone::usage_error("{} tokens are more than the session's capacity of {}", after, session.capacity());
  }
};

namespace {

// `f` gives the logits of the tokens, which are checked before.
template <class F>
int feed(hone_session* session, const int32_t* ids, int64_t count, float* logits, F&& f) {
  return static_cast<int>(guarded([&] {
    hone_session& s = given(session, "the session");
    const auto tokens = span_of(ids, count, "ids");
    given(logits, "logits");
    s.check(tokens);
    const hone::Tensor rows = f(s, tokens);
    std::ranges::copy(rows.span<float>(), logits);
    return 0;
  }));
}

}  // namespace

extern "C" {

const char* hone_version(void) {
  return hone::version();
}

const char* hone_error(void) {
  return error_text.c_str();
}

int hone_set_threads(int threads) {
  return static_cast<int>(guarded([&] {
    if (threads < 1) throw hone::usage_error("{} threads; give 1 or more", threads);
    std::call_once(threads_chosen, [] {});
    hone::kernels::set_threads(threads);
    return 0;
  }));
}

hone_model* hone_load(const char* path) {
  hone_model* result = nullptr;
  guarded([&] {
    given(path, "the path");
    choose_threads_once();
    auto loaded = std::make_shared<Loaded>();
    loaded->model = hone::load_model(path);
    loaded->tokenizer = hone::make_tokenizer(loaded->model.tokenizer);
    result = new hone_model{std::move(loaded)};
    return 0;
  });
  return result;
}

void hone_free(hone_model* model) {
  delete model;
}

int64_t hone_vocabulary(const hone_model* model) {
  return guarded([&] { return given(model, "the model").loaded->transformer().config().vocabulary; });
}

int64_t hone_context(const hone_model* model) {
  return guarded([&] { return given(model, "the model").loaded->transformer().config().context; });
}

int64_t hone_encode(const hone_model* model, const char* text, size_t bytes, int32_t* ids, int64_t capacity) {
  return guarded([&] {
    const std::span<int32_t> room = span_of(ids, capacity, "ids");
    if (bytes > 0) given(text, "the text");
    return copy_first(given(model, "the model").loaded->tokenizer->encode({text, bytes}), room);
  });
}

int64_t hone_decode(const hone_model* model, const int32_t* ids, int64_t count, char* text, int64_t capacity) {
  return guarded([&] {
    const std::span<char> room = span_of(text, capacity, "text");
    const hone::Tokenizer& tokenizer = *given(model, "the model").loaded->tokenizer;
    const auto tokens = span_of(ids, count, "ids");
    for (const int32_t id : tokens)
      if (id < 0) throw hone::usage_error("the token {} is outside the vocabulary", id);
    return copy_first(tokenizer.decode(tokens), room);
  });
}

hone_session* hone_begin(const hone_model* model, int64_t capacity) {
  hone_session* result = nullptr;
  guarded([&] {
    const auto& loaded = given(model, "the model").loaded;
    if (capacity < 1) throw hone::usage_error("room for {} tokens; give 1 or more", capacity);
    const hone::Config& config = loaded->transformer().config();
    if (capacity > hone::max_positions(config))
      throw hone::usage_error("room for {} tokens; the model has {} learned positions", capacity, config.context);
    const hone::StateShape shape{.sequences = 1, .capacity = capacity, .type = hone::DType::f32};
    result = new hone_session{loaded, hone::Session(loaded->transformer(), shape)};
    return 0;
  });
  return result;
}

void hone_end(hone_session* session) {
  delete session;
}

int hone_feed(hone_session* session, const int32_t* ids, int64_t count, float* logits) {
  return feed(session, ids, count, logits, [](hone_session& s, auto tokens) { return s.session.feed(tokens); });
}

int hone_feed_all(hone_session* session, const int32_t* ids, int64_t count, float* logits) {
  return feed(session, ids, count, logits,
              [](hone_session& s, auto tokens) { return s.loaded->transformer().logits(s.session.hidden(tokens)); });
}

int64_t hone_length(const hone_session* session) {
  return guarded([&] { return given(session, "the session").session.length(); });
}

int hone_restart(hone_session* session) {
  return static_cast<int>(guarded([&] {
    given(session, "the session").session.clear();
    return 0;
  }));
}

}  // extern "C"
