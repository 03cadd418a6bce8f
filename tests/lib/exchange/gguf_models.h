// What the tests of GGUF files share: models to write, and models that were read.
#pragma once

#include <functional>
#include <string>

#include "exchange/gguf.h"
#include "lib/exchange/folders.h"

namespace hone::test {

inline Model model_of_gguf(const std::string& path) {
  return model_in_memory(import_gguf(path), path);
}

// The fixture with a table of 256 rows and more, so that it has room for bytes, and `change`.
inline Model with_bytes(const std::string& name, const std::function<void(Config&)>& change = {}, int64_t rows = 260) {
  Model small = model_from(fixture_folder(name));
  Config config = small.transformer->config();
  if (change) change(config);
  config.vocabulary = config.padded_vocabulary = rows;
  Model model;
  model.transformer = std::make_unique<Transformer>(config);
  initialize(*model.transformer, 3, 0.3);
  return model;
}

}  // namespace hone::test
