// What the tests of the room share: folders of fixtures, texts of files.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "exchange/hugging_face.h"

namespace hone::test {

inline std::string fixture_folder(const std::string& name) {
  return std::string(HONE_TEST_DATA) + "/exchange/" + name;
}

inline std::string bytes_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void put_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::map<std::string, std::string> files_of(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files[entry.path().filename().string()] = bytes_of_file(entry.path());
  return files;
}

// A folder that goes away.
struct Folder {
  explicit Folder(const std::string& name)
      : path(std::filesystem::temp_directory_path() / ("hone-" + name + "-" + std::to_string(getpid()))) {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
  std::filesystem::path path;
};

// The numbers of a parameter that was imported.
inline Tensor values_of(const Imported& imported, const std::string& parameter) {
  const Tensor values = Tensor::empty(imported.file.parameters.at(parameter).shape);
  REQUIRE(imported.read(parameter, "values", 0, {values.raw(), values.bytes()}) == 0);
  return values;
}

// A model in memory, without a file of Hone's between.
inline Model model_in_memory(Imported imported, const std::string& path) {
  for (auto& [name, encoded] : imported.file.parameters) encoded.arrays["values"] = values_of(imported, name);
  return model_of(std::move(imported.file), path);
}

inline Model model_from(const std::string& path) {
  return model_in_memory(import_hugging_face(path), path);
}

}  // namespace hone::test
