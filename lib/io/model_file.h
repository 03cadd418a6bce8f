// The model file: configuration, tokenizer, parameters, lineage and, in checkpoints, the state of a training run, in
// HDF5. docs/format.md describes the bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "tensor/tensor.h"
#include "weights/weight.h"

namespace hone {

// The newest that is read. 2: the masks of the form `bitmask` are bytes, where 1 had integers of 32 or 64 bits. 3 to
// 5: the same, of a model with parts that readers of lower ones would pass over (format_version_of() of
// model/config.h).
constexpr int64_t model_format_version = 5;

// An attribute that is not Hone's, as HDF5 describes it: a tool that rewrites a file keeps it.
struct Note {
  std::vector<uint8_t> type;   // H5Tencode
  std::vector<uint64_t> dims;  // none: a scalar
  bool empty = false;          // no value at all
  bool texts = false;          // of variable length: `data` has them one after the other, each ended by a zero
  std::vector<uint8_t> data;
};
using Notes = std::map<std::string, Note>;  // by name

struct ModelFile {
  int64_t version = 2;                               // to be written: the lowest that says what the configuration needs
  nlohmann::json config = nlohmann::json::object();  // the blueprint; an object
  nlohmann::json tokenizer;                          // vocabulary and merges, or null for bytes
  nlohmann::json origin;  // of a converted model: what its first files said beside the numbers; null: none
  nlohmann::json lineage = nlohmann::json::array();  // entries of lineage_entry(), oldest first; a list
  std::map<std::string, Encoded> parameters;         // by module path: "blocks.0.attention.qkv.weight"
  std::optional<nlohmann::json> run;                 // checkpoints only
  std::map<std::string, Tensor> run_arrays;  // by name, which may have dots; written only where `run` has a value
  std::string digest;  // of what was read: equal for files of equal numbers and texts; "" of a file to be written
  std::map<std::string, Notes> notes;  // by parameter; "" is the root. Others than of `parameters` are not written
};

struct WrittenFile {
  std::string path;  // where it is
  int64_t bytes;
  std::string sha256;  // lower-case hex
};

// Puts bytes of an array that a ModelFile only promises (Tensor::promised) at `to`, those from `begin` on, by the names
// of the parameter and of the array. Both are whole elements. Returns 0, or an errno where they cannot be read; called
// by several threads at once, and must not throw. So no such array is ever whole in memory.
using ArrayReader =
    std::function<int(const std::string& parameter, const std::string& array, uint64_t begin, std::span<std::byte> to)>;
// Makes one whole, one after the other, so that only one is in memory at a time: what several processes must do
// together. May throw.
using ArrayMaker = std::function<Tensor(const std::string& parameter, const std::string& array)>;

// Where promised arrays come from: one of both. Each is asked for twice, since its checksum stands before it.
struct ArraySource {
  ArrayReader read = {};
  ArrayMaker make = {};
};

// Writes a temporary beside `path`, flushes it, reads it back, compares checksums and renames it. Equal content gives
// equal bytes. Throws Error(usage) if `path` exists and `force` is false; Error(input) where the device is full, fails
// or returns other bytes, and where a promise cannot be read or what is read for it in f32 has a number that is NaN or
// infinite, after which nothing is left behind. With IfTaken::beside the file is saved under another name where `path`
// cannot be had (AtomicFile::commit). Names are made of letters, digits, '_', '-' and '.'.
WrittenFile write_model_file(const std::string& path, const ModelFile& model, bool force,
                             IfTaken taken = IfTaken::refuse, const ArraySource& from = {});

struct ReadOptions {
  bool verify = true;      // compare every array that is read with its checksum; texts always are
  bool defer = false;      // with `verify`: mapped arrays of parameters are compared by Encoded::verify, not now
  bool map = true;         // arrays are read-only views into the file; false: owned copies, which may be written to
  bool parameters = true;  // false: config, tokenizer and lineage only
  bool run = false;        // true: `run` and `run_arrays` too, where the file is a checkpoint; else `run` stays empty
};

// Throws Error(input) with one sentence for a file that is missing, damaged, not a model or of a newer format. HDF5's
// own reader was not built for hostile files, so it runs in a child process with bounded memory; this process sees only
// its findings, and checks them. Datasets and attributes that are not Hone's are passed over; the attributes of the
// root and of parameters become `notes`. A mapped array needs a contiguous little-endian dataset at a multiple of 64
// bytes (all that write_model_file makes); others, such as compressed ones, are copied.
ModelFile read_model_file(const std::string& path, ReadOptions options = {});

}  // namespace hone
