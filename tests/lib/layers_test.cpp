// The direction of dependencies: a room includes only itself and rooms on lines below its own.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <string>

namespace {

// Lines of docs/architecture.md, from the bottom.
const std::map<std::string, int> line_of_room = {{"base", 0},     {"report", 1},   {"kernels", 1}, {"tensor", 2},
                                                 {"autograd", 3}, {"weights", 4},  {"ops", 5},     {"nn", 6},
                                                 {"io", 6},       {"model", 7},    {"dataset", 7}, {"measure", 8},
                                                 {"train", 9},    {"compress", 9}, {"serve", 9},   {"cli", 10}};

// Libraries that only one room may name.
const std::map<std::string, std::string> room_of_library = {
    {"CLI/", "cli"},      {"hdf5.h", "io"},           {"H5", "io"},
    {"omp.h", "kernels"}, {"immintrin.h", "kernels"}, {"oneapi/", "kernels"}};

}  // namespace

TEST_CASE("rooms include only what stands below them, and libraries stay in their rooms") {
  namespace fs = std::filesystem;
  const fs::path lib = fs::path(HONE_TEST_DATA).parent_path().parent_path() / "lib";
  const std::regex include(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(lib)) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".h" && extension != ".cpp") continue;
    ++files;
    const std::string room = fs::relative(entry.path(), lib).begin()->string();
    REQUIRE(line_of_room.contains(room));
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      CAPTURE(entry.path().string());
      CAPTURE(line);
      if (line.find("#pragma omp") != std::string::npos) CHECK(room == "kernels");
      std::smatch match;
      if (!std::regex_search(line, match, include)) continue;
      const std::string header = match[1];
      const auto included = line_of_room.find(header.substr(0, header.find('/')));
      if (included != line_of_room.end()) CHECK((included->first == room || included->second < line_of_room.at(room)));
      for (const auto& [prefix, owner] : room_of_library)
        if (header.starts_with(prefix)) CHECK(room == owner);
    }
  }
  CHECK(files > 50);
}
