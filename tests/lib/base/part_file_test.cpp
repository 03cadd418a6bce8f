#include "base/part_file.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

namespace {

using Lines = std::vector<std::string>;

std::string refusal_of_part(const std::string& path, const nlohmann::json& of) {
  try {
    PartFile(path, of, false);
  } catch (const Error& error) {
    return fmt::format("{} {}", static_cast<int>(error.kind()), error.what());
  }
  return "";
}

}  // namespace

TEST_CASE("lines of a part are found again, but half a line at its end") {
  const Scratch folder;
  const std::string path = folder / "out";
  const nlohmann::json of = {{"model", "abc"}};
  {
    PartFile part(path, of, false);
    CHECK(part.take_found().empty());
    part.put("first");
    part.put("second");
    CHECK(refusal_of_part(path, of).find("another run") != std::string::npos);
  }
  std::ofstream(path + ".part", std::ios::app) << "thi";
  {
    PartFile part(path, of, false);
    CHECK(part.take_found() == Lines{"first", "second"});
    part.put("third");
  }
  CHECK(read_text_file(path + ".part") == of.dump() + "\nfirst\nsecond\nthird\n");
  CHECK(refusal_of_part(path, {{"model", "abd"}}).starts_with("3 "));
  {
    PartFile part(path, {{"model", "abd"}}, true);  // anew
    CHECK(part.take_found().empty());
  }
  std::ofstream(path + ".part") << of.dump().substr(0, 5);  // half its first line
  {
    PartFile part(path, of, false);
    CHECK(part.take_found().empty());
    part.remove();
  }
  CHECK(refusal_of_part(path, of).empty());
  std::ofstream(path) << "taken";
  CHECK(refusal_of_part(path, of).starts_with("2 "));
}
