// The direction of dependencies: a room includes only itself and rooms on lines below its own. Names that the rooms
// share.
#include "support/type_names.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

namespace {

const std::filesystem::path root = std::filesystem::path(HONE_TEST_DATA).parent_path().parent_path();

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Of each room, those that it may include: what lib/CMakeLists.txt names BELOW it, and what those stand on.
std::map<std::string, std::set<std::string>> rooms_below() {
  const std::string text = text_of(root / "lib" / "CMakeLists.txt");
  const std::regex room(R"(hone_room\((\w+)([^)]*)\))"), named(R"(hone_(\w+))");
  std::map<std::string, std::set<std::string>> below;
  for (std::sregex_iterator line(text.begin(), text.end(), room), end; line != end; ++line) {
    std::set<std::string>& of_room = below[(*line)[1]];
    const std::string list = (*line)[2];
    for (std::sregex_iterator name(list.begin(), list.end(), named); name != end; ++name) {
      const std::string other = (*name)[1];
      of_room.insert(other);
      of_room.insert(below.at(other).begin(), below.at(other).end());
    }
  }
  return below;
}

// Libraries that only one room may name.
const std::map<std::string, std::string> room_of_library = {
    {"CLI/", "cli"},           {"hdf5.h", "io"},      {"H5", "io"},
    {"omp.h", "kernels"},      {"mpi.h", "comm"},     {"immintrin.h", "kernels"},
    {"arm_neon.h", "kernels"}, {"oneapi/", "kernels"}};

}  // namespace

TEST_CASE("rooms include only what stands below them, and libraries stay in their rooms") {
  namespace fs = std::filesystem;
  const fs::path lib = root / "lib";
  const std::regex include(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
  const auto below = rooms_below();
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(lib)) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".h" && extension != ".cpp") continue;
    ++files;
    const std::string room = fs::relative(entry.path(), lib).begin()->string();
    REQUIRE(below.contains(room));
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      CAPTURE(entry.path().string());
      CAPTURE(line);
      if (line.find("#pragma omp") != std::string::npos) CHECK(room == "kernels");
      std::smatch match;
      if (!std::regex_search(line, match, include)) continue;
      const std::string header = match[1];
      const std::string included = header.substr(0, header.find('/'));
      if (below.contains(included)) CHECK((included == room || below.at(room).contains(included)));
      for (const auto& [prefix, owner] : room_of_library)
        if (header.starts_with(prefix)) CHECK(room == owner);
    }
  }
  CHECK(files > 50);
}

TEST_CASE("JSON is read in one place, which bounds how deep it is") {
  namespace fs = std::filesystem;
  const std::regex reader(R"(json::(parse|sax_parse)\()");
  std::set<std::string> readers;
  for (const auto& entry : fs::recursive_directory_iterator(root / "lib"))
    if (entry.is_regular_file() && std::regex_search(text_of(entry.path()), reader))
      readers.insert(fs::relative(entry.path(), root / "lib").generic_string());
  // The header of safetensors is never a tree, and has a bound of its own.
  CHECK(readers == std::set<std::string>{"base/json.cpp", "exchange/safetensors.cpp"});
}

// A line of the picture may name several rooms, which do not include each other.
TEST_CASE("the picture of the rooms has every room, on a line above all that it includes") {
  const std::string page = text_of(root / "docs" / "architecture.md");
  const std::string picture = page.substr(0, page.find("\nEach room is"));
  const auto below = rooms_below();
  std::map<std::string, int> line_of;
  std::istringstream lines(picture);
  int number = 0;
  for (std::string line; std::getline(lines, line); ++number) {
    if (!line.starts_with("    ")) continue;
    std::istringstream names(line.substr(0, line.find("  ", 4)));  // before the column that explains them
    for (std::string name; names >> name;) {
      REQUIRE(below.contains(name));
      line_of[name] = number;
    }
  }
  CHECK(line_of.size() == below.size());
  for (const auto& [room, others] : below)
    for (const std::string& other : others) {
      CAPTURE(room);
      CAPTURE(other);
      CHECK(line_of.at(room) < line_of.at(other));
    }
}

// cli says which option a word of the library is (cli/glossary.cpp).
TEST_CASE("messages below cli name no option of the tools") {
  namespace fs = std::filesystem;
  const fs::path lib = root / "lib";
  const std::regex option(R"re("([^"]*[^\w-])?--[a-z][^"]*")re"), other_program(R"(zstd -d --long)");
  for (const auto& entry : fs::recursive_directory_iterator(lib)) {
    const std::string extension = entry.path().extension().string();
    if ((extension != ".h" && extension != ".cpp") || *fs::relative(entry.path(), lib).begin() == "cli") continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      line = line.substr(0, line.find("//"));
      CAPTURE(entry.path().string());
      CAPTURE(line);
      CHECK((!std::regex_search(line, option) || std::regex_search(line, other_program)));
    }
  }
}

// Of two classes of one name in one namespace the linker takes either, without a word, and a program that uses both
// breaks where their layouts differ. What a source keeps to itself belongs into a namespace without a name.
TEST_CASE("no type is defined twice under one name") {
  namespace fs = std::filesystem;
  const std::string own =
      "namespace a::b { enum class E : int { x }; template <class T> struct S : B { struct In { }; };"
      "namespace { class Mine { }; } struct S* f() { } class Later; }  // struct No { };\n"
      "struct Last final { char c = '{'; const char* t = \"struct No { };\"; };";
  CHECK(hone::test::type_names(own) == std::vector<std::string>{"a::b::E", "a::b::S", "Last"});
  std::map<std::string, std::string> defined_in;
  for (const char* folder : {"lib", "tools", "tests"})
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cpp") continue;
      for (const std::string& name : hone::test::type_names(text_of(entry.path()))) {
        CAPTURE(name);
        CAPTURE(entry.path().string());
        const auto [first, is_new] = defined_in.emplace(name, entry.path().string());
        CAPTURE(first->second);
        CHECK(
            (is_new || first->second == entry.path().string()));  // one file may have two ways, of which #if takes one
      }
    }
  CHECK(defined_in.contains("hone::Batch"));
  CHECK(defined_in.size() > 300);
}
