// Reading: an index of the file first, then the arrays by their offsets, without HDF5.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/stop.h"
#include "io/checksum.h"
#include "io/descriptor.h"
#include "io/hdf5.h"
#include "io/index.h"
#include "io/isolate.h"
#include "io/model_file.h"
#include "io/pieces.h"
#include "io/read_back.h"
#include "io/verification.h"

namespace hone {
namespace {

constexpr std::string_view signature = "\x89HDF\r\n\x1a\n";
constexpr const char* wrong_checksum = "does not match its checksum";

// HDF5's signature stands at 0 or, behind a block of the user, at 512, 1024, 2048, …
bool has_signature(int fd, uint64_t file_bytes) {
  char found[8];
  for (uint64_t offset = 0; offset + sizeof found <= file_bytes; offset = offset ? 2 * offset : 512) {
    const Transfer transfer{reinterpret_cast<std::byte*>(found), sizeof found, offset};
    if (read_all(fd, {&transfer, 1}) == 0 && std::string_view(found, sizeof found) == signature) return true;
  }
  return false;
}

class Loader {
 public:
  Loader(const std::string& path, ReadOptions options, bool by_pieces)
      : path_(path), options_(options), by_pieces_(by_pieces) {
    file_ = Descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status;
    if (!file_ || fstat(file_.fd(), &status) != 0)
      throw input_error("cannot read '{}': {}", path, std::strerror(errno));
    if (!S_ISREG(status.st_mode)) throw input_error("'{}' is not a regular file: give a model file", path);
    file_bytes_ = static_cast<uint64_t>(status.st_size);
    if (file_bytes_ == 0) throw input_error("'{}' is empty: give a model file", path);
    if (!has_signature(file_.fd(), file_bytes_))
      throw input_error("'{}' is not an HDF5 file: give a model file that train, prune or quantize wrote", path);
    spill_ = Descriptor(memfd_create("hone-spill", MFD_CLOEXEC));
    if (!spill_) throw internal_error("no memory file: {}", std::strerror(errno));
  }

  ModelFile load() {
    find();
    check_entries();
    place_arrays();
    if (options_.verify) verify();
    return assemble();
  }

 private:
  void find() {
    const std::string failure = fmt::format("'{}' is damaged: HDF5 fails to read it; use another copy", path_);
    const auto index = [&] { return to_json(index_file(path_, file_.fd(), options_, spill_.fd())); };
    hdf5::quiet();  // prepares the library once, not in every child
    try {
      index_ = index_of(isolated(index, failure));
    } catch (const nlohmann::json::exception&) {
      throw input_error("{}", failure);
    }
  }

  // The index comes from a process that read a file of unknown origin, so nothing in it is taken on trust.
  void check_entries() {
    struct stat status;
    if (fstat(spill_.fd(), &status) != 0) throw internal_error("no memory file: {}", std::strerror(errno));
    spill_bytes_ = static_cast<uint64_t>(status.st_size);
    uint64_t direct = 0;
    for (const Entry& e : index_.entries) {
      const uint64_t limit = e.spilled ? spill_bytes_ : file_bytes_;
      uint64_t bytes = 0;
      if (!bytes_of(e.shape, e.dtype, bytes) || bytes != e.bytes || e.offset > limit || e.bytes > limit - e.offset)
        throw damaged(e, "reaches beyond the end of the file");
      if (!e.spilled && (direct += e.bytes) > file_bytes_) throw damaged(e, "lies over another dataset");
    }
  }

  void place_arrays() {
    const size_t n = index_.entries.size();
    arrays_.resize(n);
    std::vector<Transfer> from_file, from_spill;
    std::shared_ptr<Storage> file_map, spill_map;
    for (size_t i = 0; i < n; ++i) {
      const Entry& e = index_.entries[i];
      std::shared_ptr<Storage>& map = e.spilled ? spill_map : file_map;
      const bool mapped = options_.map && e.section != Section::text && e.bytes > 0 && e.offset % data_alignment == 0;
      if (mapped && !map) map = e.spilled ? map_file(spill_.fd(), spill_bytes_) : map_file(file_.fd(), file_bytes_);
      if (mapped && map) {
        arrays_[i] = Tensor::over(map, e.offset, e.shape, e.dtype);
      } else {
        arrays_[i] = Tensor::empty(e.shape, e.dtype);
        (e.spilled ? from_spill : from_file).push_back({arrays_[i].raw(), e.bytes, e.offset});
      }
    }
    int error = read_all(file_.fd(), from_file);
    if (error == 0) error = read_all(spill_.fd(), from_spill);
    if (error != 0) throw input_error("cannot read '{}': {}", path_, std::strerror(error));
  }

  // What has been read already is compared at once.
  bool deferred(size_t i) const {
    const Entry& e = index_.entries[i];
    return options_.verify && options_.defer && e.section == Section::parameter && !e.spilled && !arrays_[i].writable();
  }

  void verify() {
    const size_t n = arrays_.size();
    std::vector<size_t> order;
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; ++i) {
      if (deferred(i)) continue;
      order.push_back(i);
      bytes += arrays_[i].bytes();
    }
    // The largest first, so that threads finish together.
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return arrays_[a].bytes() > arrays_[b].bytes(); });
    std::optional<PieceBuffers> buffers;
    // With `defer` all that is left of arrays is the state of a run, of which a reader of weights has no use.
    if (by_pieces_ || (options_.defer && options_.run)) buffers.emplace();
    std::vector<std::string> found(n);
    for (std::string& checksum : found) checksum.reserve(checksum_digits);
    std::atomic<int> error{0};
    for_each_of(static_cast<int64_t>(order.size()), bytes, [&](int64_t i) {
      const size_t item = order[static_cast<size_t>(i)];
      if (!buffers || arrays_[item].writable())
        checksum_into(arrays_[item].raw(), arrays_[item].bytes(), found[item]);
      else if (const int failed = read_checksum(item, buffers->of_this_thread(), found[item]))
        error = failed;
    });
    check_stop();
    if (error != 0) throw input_error("cannot read '{}': {}", path_, std::strerror(error));
    for (size_t i = 0; i < n; ++i)
      if (!deferred(i) && found[i] != index_.entries[i].checksum) throw damaged(index_.entries[i], wrong_checksum);
  }

  // Of a mapped array whose pages nobody will need: to touch them takes longer than to read them. Returns an errno.
  int read_checksum(size_t i, std::span<std::byte> buffer, std::string& checksum) const {
    const Entry& e = index_.entries[i];
    const int fd = e.spilled ? spill_.fd() : file_.fd();
    const auto read = [&](uint64_t begin, std::span<std::byte> to) {
      return read_at(fd, {to.data(), to.size(), e.offset + begin});
    };
    return checksum_by_pieces(e.bytes, buffer, read, checksum);
  }

  ModelFile assemble() {
    ModelFile model;
    model.parameters = std::move(index_.parameters);
    model.notes = std::move(index_.notes);
    std::map<std::string, std::vector<Verification::Check>> checks;  // by parameter
    std::string checksums;
    for (size_t i = 0; i < arrays_.size(); ++i) {
      const Entry& e = index_.entries[i];
      checksums += e.checksum;
      switch (e.section) {
        case Section::text:
          text_into(model, i);
          break;
        case Section::parameter:
          model.parameters[e.owner].arrays[e.name] = arrays_[i];
          if (deferred(i)) checks[e.owner].push_back({arrays_[i], e.checksum, damaged(e, wrong_checksum)});
          break;
        case Section::run:
          model.run_arrays[e.name] = arrays_[i];
          break;
      }
    }
    for (auto& [name, of_parameter] : checks) model.parameters[name].verify = Verification(std::move(of_parameter));
    model.digest = checksum_of(checksums.data(), checksums.size());
    if (!model.config.is_object())
      throw input_error("'{}': dataset 'config' is not a JSON object; use another copy", path_);
    if (!model.lineage.is_array())
      throw input_error("'{}': dataset 'lineage' is not a JSON list; use another copy", path_);
    return model;
  }

  void text_into(ModelFile& model, size_t i) {
    const Entry& e = index_.entries[i];
    if (!options_.verify && checksum_of(arrays_[i].raw(), arrays_[i].bytes()) != e.checksum)
      throw damaged(e, wrong_checksum);
    const std::string text(reinterpret_cast<const char*>(arrays_[i].raw()), arrays_[i].bytes());
    std::string problem;
    nlohmann::json value = parse_json(text, &problem);
    if (value.is_discarded()) throw damaged(e, problem);
    if (e.name == "config")
      model.config = std::move(value);
    else if (e.name == "tokenizer")
      model.tokenizer = std::move(value);
    else if (e.name == "lineage")
      model.lineage = std::move(value);
    else if (e.name == "origin")
      model.origin = std::move(value);
    else
      model.run = std::move(value);
  }

  Error damaged(const Entry& entry, std::string_view what) const {
    return input_error("'{}': {} {}: the file is damaged; use another copy", path_, entry.where(), what);
  }

  const std::string& path_;
  ReadOptions options_;
  bool by_pieces_;
  Descriptor file_, spill_;
  uint64_t file_bytes_ = 0, spill_bytes_ = 0;
  Index index_;
  std::vector<Tensor> arrays_;  // one for each entry
};

}  // namespace

ModelFile read_model_file(const std::string& path, ReadOptions options) {
  return Loader(path, options, false).load();
}

ModelFile read_back(const std::string& path) {
  return Loader(path, {.run = true}, true).load();
}

}  // namespace hone
