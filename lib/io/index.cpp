#include "io/index.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "base/error.h"
#include "io/hdf5.h"
#include "io/isolate.h"
#include "io/notes.h"

namespace hone {
namespace {

using hdf5::Handle;

constexpr int deepest = 32;                  // groups within groups
constexpr uint64_t best_compression = 1032;  // of deflate: more than that is not data but a trap
constexpr const char* advice = "the file is damaged; use another copy";

struct Object {
  Handle handle;
  H5I_type_t type;
};

class Indexer {
 public:
  Indexer(const std::string& path, int file, ReadOptions options, int spill)
      : path_(path), options_(options), spill_(spill) {
    struct stat status;
    if (fstat(file, &status) != 0) throw input_error("cannot read '{}': {}", path, std::strerror(errno));
    file_bytes_ = static_cast<uint64_t>(status.st_size);
    open_file(status);
  }

  Index run() {
    check_format();
    const auto ours = [](const std::string& name) { return name == "format" || name == "format_version"; };
    index_.notes[""] = read_notes(root_, ours, at("the root group"));
    for (const char* name : {"config", "tokenizer", "lineage"}) text(root_, name, name);
    if (has(root_, "origin")) text(root_, "origin", "origin");
    if (options_.parameters) {
      const Object parameters = open(root_, "parameters", "group '/parameters'");
      require(parameters, H5I_GROUP, "group '/parameters'");
      group(parameters.handle, "", 0);
    }
    if (options_.run && has(root_, "run")) run_section();
    return std::move(index_);
  }

 private:
  template <class... Args>
  Error bad(const std::string& where, fmt::format_string<Args...> format, Args&&... args) const {
    return input_error("'{}': {} {}", path_, where, fmt::format(format, std::forward<Args>(args)...));
  }
  std::string at(const std::string& where) const { return fmt::format("'{}': {}", path_, where); }

  void open_file(const struct stat& expected) {
    const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    H5Pset_file_locking(access, false, true);  // model files are replaced, never changed in place
    file_ = Handle(H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
    if (!file_)
      throw input_error("'{}' is cut short or damaged (HDF5 says: {}); use another copy", path_, hdf5::reason());
    void* handle = nullptr;
    struct stat found;
    if (H5Fget_vfd_handle(file_, access, &handle) < 0 || !handle || fstat(*static_cast<int*>(handle), &found) != 0 ||
        found.st_dev != expected.st_dev || found.st_ino != expected.st_ino)
      throw input_error("'{}' was replaced while it was being opened; try again", path_);
    root_ = Handle(H5Gopen2(file_, "/", H5P_DEFAULT), H5Gclose);
    if (!root_) throw bad("the root group", "cannot be read ({}): {}", hdf5::reason(), advice);
  }

  void check_format() {
    const std::string where = at("the root group");
    if (!hdf5::has_attribute(root_, "format") || hdf5::get_text(root_, "format", where) != "hone-model")
      throw input_error("'{}' is an HDF5 file but not a model of hone: give a file that train, prune or quantize wrote",
                        path_);
    const int64_t version = hdf5::get_integer(root_, "format_version", where);
    if (version > model_format_version)
      throw input_error(
          "'{}' was written by a newer version of hone (format {}); this version reads up to {}: update hone", path_,
          version, model_format_version);
    if (version < 1) throw bad("the root group", "has format_version {}: {}", version, advice);
  }

  static bool has(hid_t parent, const char* name) { return H5Lexists(parent, name, H5P_DEFAULT) > 0; }

  // Follows hard links only, and to each object only once: there is no way out of the file, and no way round in it.
  Object open(hid_t parent, const char* name, const std::string& where) {
    if (!has(parent, name)) throw bad(where, "is missing: {}", advice);
    H5L_info_t link;
    if (H5Lget_info(parent, name, &link, H5P_DEFAULT) < 0)
      throw bad(where, "cannot be read ({}): {}", hdf5::reason(), advice);
    if (link.type != H5L_TYPE_HARD)
      throw bad(where,
                "is a link to another place, which is not followed: copy the model with h5repack or use another copy");
    Object object{Handle(H5Oopen(parent, name, H5P_DEFAULT), H5Oclose), H5I_BADID};
    const haddr_t address = object.handle ? hdf5::address_of(object.handle) : HADDR_UNDEF;
    if (address == HADDR_UNDEF) throw bad(where, "cannot be read ({}): {}", hdf5::reason(), advice);
    if (!visited_.insert(address).second) throw bad(where, "is linked to twice: {}", advice);
    object.type = H5Iget_type(object.handle);
    return object;
  }

  void require(const Object& object, H5I_type_t type, const std::string& where) const {
    if (object.type != type) throw bad(where, "is not a {}: {}", type == H5I_GROUP ? "group" : "dataset", advice);
  }

  // A JSON text: one string. Ours have a fixed length; netCDF's tools make a variable one of it.
  void text(hid_t parent, const char* name, const std::string& full_name) {
    Entry entry{Section::text, "", full_name};
    const std::string where = entry.where();
    const Object object = open(parent, name, where);
    require(object, H5I_DATASET, where);
    const Handle type(H5Dget_type(object.handle), H5Tclose);
    const Handle space(H5Dget_space(object.handle), H5Sclose);
    if (!type || !space || H5Tget_class(type) != H5T_STRING || H5Sget_simple_extent_npoints(space) != 1)
      throw bad(where, "is not one string: {}", advice);
    entry.checksum = hdf5::get_text(object.handle, "checksum", at(where));
    if (H5Tis_variable_str(type) != 0) return variable_text(object.handle, type, space, entry);
    entry.bytes = H5Tget_size(type);
    entry.shape = {static_cast<int64_t>(entry.bytes)};
    place(object.handle, type, true, entry);
  }

  void variable_text(hid_t dataset, hid_t type, hid_t space, Entry& entry) {
    char* text = nullptr;
    if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, &text) < 0 || !text)
      throw bad(entry.where(), "cannot be read ({}): {}", hdf5::reason(), advice);
    entry.bytes = std::strlen(text);
    entry.shape = {static_cast<int64_t>(entry.bytes)};
    spill(entry, [&](void* data) { return std::memcpy(data, text, entry.bytes) == data; });
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, &text);
    index_.entries.push_back(entry);
  }

  void array(const Object& object, Entry entry) {
    const std::string where = entry.where();
    require(object, H5I_DATASET, where);
    entry.checksum = hdf5::get_text(object.handle, "checksum", at(where));
    entry.dtype = element_type(object.handle, where);
    const Handle type(H5Dget_type(object.handle), H5Tclose);
    const Handle space(H5Dget_space(object.handle), H5Sclose);
    const hid_t wanted = hdf5::little_endian(entry.dtype);
    const bool direct = type && H5Tequal(type, wanted) > 0;
    if (!direct && !(type && H5Tequal(type, hdf5::big_endian(entry.dtype)) > 0))
      throw bad(where, "is not stored as its element_type '{}': {}", name_of(entry.dtype), advice);
    const int rank = space ? H5Sget_simple_extent_ndims(space) : -1;
    const H5S_class_t kind = space ? H5Sget_simple_extent_type(space) : H5S_NO_CLASS;
    if ((kind != H5S_SIMPLE && kind != H5S_SCALAR) || rank < 0 || static_cast<size_t>(rank) > highest_rank)
      throw bad(where, "has no shape of at most {} dimensions: {}", highest_rank, advice);
    std::vector<hsize_t> dims(static_cast<size_t>(rank));
    if (rank > 0 && H5Sget_simple_extent_dims(space, dims.data(), nullptr) != rank)
      throw bad(where, "has no shape ({}): {}", hdf5::reason(), advice);
    entry.shape = Shape(dims.begin(), dims.end());
    if (!bytes_of(entry.shape, entry.dtype, entry.bytes))
      throw bad(where, "has an impossible shape {}: {}", to_string(entry.shape), advice);
    place(object.handle, wanted, direct, entry);
  }

  DType element_type(hid_t dataset, const std::string& where) const {
    const std::string name = hdf5::get_text(dataset, "element_type", at(where));
    try {
      return dtype_named(name);
    } catch (const Error&) {
      throw bad(where, "has the unknown element_type '{}': update hone or use another copy", name);
    }
  }

  // Finds where the bytes lie, or unpacks them; `wanted` is the type of an element in memory.
  void place(hid_t dataset, hid_t wanted, bool direct, Entry& entry) {
    const std::string where = entry.where();
    const Handle list(H5Dget_create_plist(dataset), H5Pclose);
    const H5D_layout_t layout = list ? H5Pget_layout(list) : H5D_LAYOUT_ERROR;
    if ((layout != H5D_CONTIGUOUS && layout != H5D_COMPACT && layout != H5D_CHUNKED) ||
        H5Pget_external_count(list) != 0)
      throw bad(where,
                "keeps its data in other files, which are not read: copy the model with h5repack or use another copy");
    if (entry.bytes > 0 && layout == H5D_CONTIGUOUS && direct) {
      const haddr_t offset = H5Dget_offset(dataset);
      if (offset == HADDR_UNDEF || offset > file_bytes_ || entry.bytes > file_bytes_ - offset)
        throw bad(where, "reaches beyond the end of the file: {}", advice);
      entry.offset = offset;
    } else if (entry.bytes > 0) {
      const uint64_t stored = H5Dget_storage_size(dataset);
      if (stored == 0 || stored > file_bytes_ || entry.bytes / best_compression > stored)
        throw bad(where, "has {} bytes in {} bytes of storage: {}", entry.bytes, stored, advice);
      unpack(dataset, wanted, entry);
    }
    index_.entries.push_back(entry);
  }

  void unpack(hid_t dataset, hid_t wanted, Entry& entry) {
    // HDF5 holds a chunk, which may be the whole dataset, packed and unpacked.
    expect_bytes(3 * entry.bytes);
    spill(entry, [&](void* data) { return H5Dread(dataset, wanted, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0; });
  }

  // Gives the entry a place in the spill, which fill() fills.
  template <class Fill>
  void spill(Entry& entry, Fill fill) {
    if (entry.bytes == 0) return;
    const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    entry.spilled = true;
    entry.offset = spill_bytes_;
    spill_bytes_ += (entry.bytes + page - 1) / page * page;
    if (ftruncate(spill_, static_cast<off_t>(spill_bytes_)) != 0)
      throw bad(entry.where(), "does not fit into memory: {}", std::strerror(errno));
    void* data =
        mmap(nullptr, entry.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, spill_, static_cast<off_t>(entry.offset));
    if (data == MAP_FAILED) throw bad(entry.where(), "does not fit into memory: {}", std::strerror(errno));
    const bool good = fill(data);
    munmap(data, entry.bytes);
    if (!good) throw bad(entry.where(), "cannot be unpacked ({}): {}", hdf5::reason(), advice);
  }

  // Datasets that others have put beside ours, such as the dimensions that netCDF's tools add.
  static bool is_strange(const Object& object) {
    return object.type != H5I_GROUP &&
           (object.type != H5I_DATASET ||
            (!hdf5::has_attribute(object.handle, "checksum") && !hdf5::has_attribute(object.handle, "element_type")));
  }

  // A group with the attribute `form` is a parameter, its datasets are the parameter's arrays; groups in it are part of
  // the path.
  void group(hid_t handle, const std::string& name, int depth) {
    const std::string where = name.empty() ? "group '/parameters'" : fmt::format("parameter '{}'", name);
    if (depth > deepest) throw bad(where, "lies in too many groups: {}", advice);
    const bool parameter = !name.empty() && hdf5::has_attribute(handle, "form");
    if (parameter) {
      index_.parameters[name] = encoded(handle, where);
      index_.notes[name] = read_notes(handle, is_ours, at(where));
    }
    for (const hdf5::Link& link : hdf5::links_of(handle, at(where))) {
      const std::string member = fmt::format("{} member '{}'", where, link.name);
      const Object object = open(handle, link.name.c_str(), member);
      if (is_strange(object)) continue;
      if (!is_component(link.name)) throw bad(where, "has a member whose name is not allowed: {}", advice);
      if (object.type == H5I_GROUP)
        group(object.handle, name.empty() ? link.name : name + "." + link.name, depth + 1);
      else if (parameter)
        array(object, {Section::parameter, name, link.name});
      else
        throw bad(member, "does not belong to a parameter: {}", advice);
    }
  }

  static bool is_ours(const std::string& name) {
    return name == "form" || name == "element" || name == "shape" || is_form_attribute(name);
  }

  Encoded encoded(hid_t handle, const std::string& where) const {
    Encoded result;
    result.form = hdf5::get_text(handle, "form", at(where));
    result.element = hdf5::get_text(handle, "element", at(where));
    const std::vector<int64_t> dims = hdf5::get_integers(handle, "shape", highest_rank, at(where));
    result.shape = Shape(dims.begin(), dims.end());
    uint64_t bytes = 0;
    if (!bytes_of(result.shape, DType::u64, bytes))
      throw bad(where, "has an impossible shape {}: {}", to_string(result.shape), advice);
    for (const std::string& name : hdf5::attribute_names(handle, at(where)))
      if (is_form_attribute(name)) result.attributes[name] = hdf5::get_integer(handle, name.c_str(), at(where));
    return result;
  }

  void run_section() {
    const Object run = open(root_, "run", "group '/run'");
    require(run, H5I_GROUP, "group '/run'");
    text(run.handle, "state", "run/state");
    const Object arrays = open(run.handle, "arrays", "group '/run/arrays'");
    require(arrays, H5I_GROUP, "group '/run/arrays'");
    for (const hdf5::Link& link : hdf5::links_of(arrays.handle, at("group '/run/arrays'"))) {
      if (!is_run_name(link.name))
        throw bad("group '/run/arrays'", "has a member whose name is not allowed: {}", advice);
      Entry entry{Section::run, "", link.name};
      array(open(arrays.handle, link.name.c_str(), entry.where()), entry);
    }
  }

  const std::string& path_;
  ReadOptions options_;
  int spill_;
  uint64_t file_bytes_ = 0, spill_bytes_ = 0;
  Handle file_, root_;
  std::set<haddr_t> visited_;
  Index index_;
};

}  // namespace

Index index_file(const std::string& path, int file, ReadOptions options, int spill) {
  return Indexer(path, file, options, spill).run();
}

nlohmann::json to_json(const Index& index) {
  nlohmann::json entries = nlohmann::json::array(), parameters = nlohmann::json::object();
  for (const Entry& e : index.entries)
    entries.push_back({e.section, e.owner, e.name, e.dtype, e.shape, e.bytes, e.offset, e.spilled, e.checksum});
  for (const auto& [name, p] : index.parameters) parameters[name] = {p.form, p.element, p.shape, p.attributes};
  nlohmann::json notes = nlohmann::json::object();
  for (const auto& [name, of_object] : index.notes)
    if (!of_object.empty()) notes[name] = to_json(of_object);
  return {{"entries", std::move(entries)}, {"parameters", std::move(parameters)}, {"notes", std::move(notes)}};
}

namespace {

Shape shape_of(const nlohmann::json& dims) {
  const auto all = dims.get<std::vector<int64_t>>();
  if (all.size() > highest_rank) throw input_error("a dataset of {} dimensions; the file is damaged", all.size());
  return Shape(all.begin(), all.end());
}

}  // namespace

Index index_of(const nlohmann::json& json) {
  Index index;
  for (const auto& e : json.at("entries")) {
    Entry entry{e.at(0).get<Section>(), e.at(1).get<std::string>(), e.at(2).get<std::string>(), e.at(3).get<DType>()};
    entry.shape = shape_of(e.at(4));
    entry.bytes = e.at(5).get<uint64_t>();
    entry.offset = e.at(6).get<uint64_t>();
    entry.spilled = e.at(7).get<bool>();
    entry.checksum = e.at(8).get<std::string>();
    index.entries.push_back(std::move(entry));
  }
  for (const auto& [name, p] : json.at("parameters").items()) {
    Encoded& encoded = index.parameters[name];
    encoded.form = p.at(0).get<std::string>();
    encoded.element = p.at(1).get<std::string>();
    encoded.shape = shape_of(p.at(2));
    encoded.attributes = p.at(3).get<std::map<std::string, int64_t>>();
  }
  for (const auto& [name, notes] : json.at("notes").items()) index.notes[name] = notes_of(notes);
  return index;
}

}  // namespace hone
