// What the tests of model files share: a small model with every kind of content, a folder that goes away, bytes of
// files.
#pragma once

#include <string>

#include "io/model_file.h"

namespace hone::test {

class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string operator/(const std::string& name) const { return directory_ + "/" + name; }
  size_t files() const;  // in the folder now

 private:
  std::string directory_;
};

ModelFile example(bool with_run);
bool same(const Tensor& a, const Tensor& b);  // type, shape and bytes
bool same(const ModelFile& a, const ModelFile& b);

std::string bytes_of(const std::string& path);
void put_bytes(const std::string& path, const std::string& bytes);

// The message of the hone::Error(input) that reading throws; empty if it throws nothing. Other exceptions pass.
std::string complaint(const std::string& path, ReadOptions options = {});

}  // namespace hone::test
