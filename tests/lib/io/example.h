// What the tests of model files share: a small model with every kind of content, bytes of files.
#pragma once

#include <string>

#include "io/model_file.h"
#include "support/scratch.h"

namespace hone::test {

ModelFile example(bool with_run);
bool same(const Tensor& a, const Tensor& b);  // type, shape and bytes
bool same(const ModelFile& a, const ModelFile& b);

std::string bytes_of(const std::string& path);
void put_bytes(const std::string& path, const std::string& bytes);

// The message of the hone::Error(input) that reading throws; empty if it throws nothing. Other exceptions pass.
std::string complaint(const std::string& path, ReadOptions options = {});

}  // namespace hone::test
