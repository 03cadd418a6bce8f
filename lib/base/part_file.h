// A file that grows line by line beside what it will become, so that an interrupted run can go on.
#pragma once

#include <cstdio>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

namespace hone {

// "PATH.part": a first line that tells what it is of, and the lines that were put behind it. One run has it at a time.
class PartFile {
 public:
  // Finds the lines of an earlier run; a last one without its end is not counted, and goes. Throws Error(usage) where
  // another run has it, or PATH exists (without `force`), Error(input) where it tells of something else or cannot be
  // written. With `force` it begins anew.
  PartFile(const std::string& path, const nlohmann::json& of, bool force);

  const std::string& name() const { return part_; }
  std::vector<std::string> take_found() { return std::move(found_); }  // without their ends; line i + 2 of the file
  void put(const std::string& line);
  void remove();

 private:
  void open();
  size_t read(const nlohmann::json& of);  // bytes of its whole lines
  void write(const std::string& text);

  std::string part_;
  std::vector<std::string> found_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, std::fclose};
};

}  // namespace hone
