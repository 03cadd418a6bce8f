#include <exception>
#include <optional>

#include "base/error.h"
#include "base/stop.h"
#include "comm/communicator.h"

namespace hone {
namespace {

// What a rank says of its turn: a letter and a number, and behind a blank the text.
enum class Turn : char { done = 'd', failed = 'f', router_failed = 'r', stopped = 's' };

std::string said(Turn turn, int number, std::string_view text) {
  return fmt::format("{}{} {}", static_cast<char>(turn), number, text);
}

struct Said {
  Turn turn;
  int number;
  std::string text;
};

Said parsed(const std::string& text) {
  const size_t blank = text.find(' ');
  return {static_cast<Turn>(text.at(0)), std::stoi(text.substr(1, blank - 1)), text.substr(blank + 1)};
}

}  // namespace

std::vector<std::string> gather_agreed(Communicator& ranks, const std::function<std::string()>& f) {
  if (ranks.size() == 1) return {f()};
  std::string mine;
  std::exception_ptr thrown;
  try {
    mine = said(Turn::done, 0, f());
  } catch (const Stopped& stopped) {
    mine = said(Turn::stopped, stopped.signal(), "");
    thrown = std::current_exception();
  } catch (const RouterError& error) {
    mine = said(Turn::router_failed, static_cast<int>(error.kind()), error.what());
    thrown = std::current_exception();
  } catch (const Error& error) {
    mine = said(Turn::failed, static_cast<int>(error.kind()), error.what());
    thrown = std::current_exception();
  } catch (const std::bad_alloc&) {
    mine = said(Turn::failed, static_cast<int>(ErrorKind::internal),
                "not enough memory; use a smaller model, batch or context");
    thrown = std::current_exception();
  } catch (const std::exception& error) {
    mine = said(Turn::failed, static_cast<int>(ErrorKind::internal), error.what());
    thrown = std::current_exception();
  }
  std::vector<std::string> results;
  std::optional<Said> first;
  int first_rank = 0;
  for (const std::string& text : ranks.gather(mine)) {
    Said one = parsed(text);
    if (one.turn != Turn::done && !first) {
      first = one;
      first_rank = static_cast<int>(results.size());
    }
    results.push_back(std::move(one.text));
  }
  if (!first) return results;
  if (first_rank == ranks.rank()) std::rethrow_exception(thrown);
  if (first->turn == Turn::stopped) throw Stopped(first->number);
  const auto kind = static_cast<ErrorKind>(first->number);
  if (first->turn == Turn::router_failed) throw RouterError(kind, first->text);
  throw Error(kind, first->text);
}

void agree(Communicator& ranks, const std::function<void()>& f) {
  gather_agreed(ranks, [&] {
    f();
    return std::string();
  });
}

}  // namespace hone
