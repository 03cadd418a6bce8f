// What is in a model file and where: the only code that reads HDF5's structures. Private to this room.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/entry.h"
#include "io/model_file.h"

namespace hone {

struct Index {
  std::vector<Entry> entries;
  std::map<std::string, Encoded> parameters;  // without their arrays
  std::map<std::string, Notes> notes;         // as ModelFile::notes
};

// Lists the datasets that `options` asks for. Those that do not lie in the file as they are wanted (chunked,
// compressed, big-endian) are unpacked into `spill`, a file without a name. `file` is the same file, open already.
// Throws Error(input).
Index index_file(const std::string& path, int file, ReadOptions options, int spill);

nlohmann::json to_json(const Index& index);
Index index_of(const nlohmann::json& json);  // throws nlohmann::json::exception

}  // namespace hone
