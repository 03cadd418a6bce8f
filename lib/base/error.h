// Errors: one exception type whose kind is the exit status of the tool that lets it through.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace hone {

// The values are exit statuses and part of the command-line contract.
enum class ErrorKind { internal = 1, usage = 2, input = 3, requirement = 4, diverged = 5 };

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string message) : std::runtime_error(std::move(message)), kind_(kind) {}
  ErrorKind kind() const { return kind_; }
  int exit_status() const { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
};

// A router whose logits are not finite. Outside training it is an input error; training says that it diverged. Who
// hands errors on from rank to rank (comm) keeps that it is one.
struct RouterError : Error {
  using Error::Error;
};

// A message says what is wrong, where (file, dataset, line), and what to do about it.
template <class... Args>
Error usage_error(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ErrorKind::usage, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
Error input_error(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ErrorKind::input, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
Error internal_error(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ErrorKind::internal, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace hone
