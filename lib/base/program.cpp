#include "base/program.h"

namespace hone {
namespace {

constexpr std::string_view prefix = "hone-";
std::string program;

}  // namespace

void set_program(const char* path, std::string_view name) {
  const std::string_view whole = path ? path : "";
  program = whole.substr(whole.rfind('/') + 1);  // npos + 1 is 0
  for (char& c : program)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  if (program.empty()) program = name;
}

std::string program_name() {
  return program;
}

std::string command_name(std::string_view tool) {
  if (program.starts_with("hone ")) return "hone " + std::string(tool);  // by the command in front
  return program.starts_with(prefix) ? std::string(prefix) + std::string(tool) : std::string(tool);
}

}  // namespace hone
