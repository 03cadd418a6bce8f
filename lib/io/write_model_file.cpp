// Writing: HDF5 lays the file out, in a child process; this one then writes the bytes of the arrays to their places, on
// all threads. HDF5 cannot give up a file that it cannot write, as on a full disk: it would fail again, badly, at the
// end of its process.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <set>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/stop.h"
#include "io/checksum.h"
#include "io/descriptor.h"
#include "io/entry.h"
#include "io/hdf5.h"
#include "io/isolate.h"
#include "io/model_file.h"
#include "io/notes.h"
#include "io/promised.h"
#include "io/read_back.h"
#include "tensor/pages.h"

namespace hone {
namespace {

using hdf5::Handle;

struct Source {
  Entry entry;
  const std::byte* data;
  Tensor tensor = {};  // which has it, if it is no text
};

std::string text_of(const nlohmann::json& value, const char* what) {
  try {
    return value.dump(-1, ' ', true);  // ASCII: not every reader of HDF5 takes UTF-8
  } catch (const nlohmann::json::exception& error) {
    throw internal_error("the {} cannot be written as JSON: {}", what, error.what());
  }
}

Source source_of(Section section, const std::string& owner, const std::string& name, const Tensor& tensor) {
  Source source{{section, owner, name}, nullptr};
  Entry& entry = source.entry;
  if (!tensor) throw internal_error("{} has no storage", entry.where());
  entry.dtype = tensor.dtype();
  entry.shape = tensor.shape();
  entry.bytes = tensor.bytes();
  source.data = tensor.promised() ? nullptr : tensor.raw();
  source.tensor = tensor;
  return source;
}

Source source_of(const char* name, const std::string& text) {
  Source source{{Section::text, "", name}, reinterpret_cast<const std::byte*>(text.data())};
  source.entry.bytes = text.size();
  return source;
}

// Makes groups and datasets in an open file; every array gets its place at once.
class Layout {
 public:
  Layout(hid_t file, const std::string& path) : file_(file), path_(path) {
    group_list_ = Handle(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
    dataset_list_ = Handle(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    for (const hid_t list : {hid_t{group_list_}, hid_t{dataset_list_}}) H5Pset_obj_track_times(list, false);
    H5Pset_layout(dataset_list_, H5D_CONTIGUOUS);
    H5Pset_alloc_time(dataset_list_, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(dataset_list_, H5D_FILL_TIME_NEVER);
  }

  // Opens "/a/b" and makes what is missing of it.
  Handle group(const std::string& path) {
    if (made_.insert(path).second) {
      const size_t slash = path.rfind('/');
      if (slash > 0) group(path.substr(0, slash));
      const Handle made(H5Gcreate2(file_, path.c_str(), H5P_DEFAULT, group_list_, H5P_DEFAULT), H5Gclose);
      if (!made) throw failed(path);
      return made_again(path);
    }
    return made_again(path);
  }

  void text(const std::string& path, std::string_view text, Entry& entry) {
    place(path, hdf5::text_type(text), Handle(H5Screate(H5S_SCALAR), H5Sclose), entry);
  }

  void array(const std::string& path, Entry& entry) {
    const std::vector<hsize_t> dims(entry.shape.begin(), entry.shape.end());
    Handle space(
        dims.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
        H5Sclose);
    const Handle dataset = place(path, hdf5::little_endian(entry.dtype), space, entry);
    hdf5::put_text(dataset, "element_type", name_of(entry.dtype));
  }

 private:
  Handle made_again(const std::string& path) {
    Handle group(H5Gopen2(file_, path.c_str(), H5P_DEFAULT), H5Gclose);
    if (!group) throw failed(path);
    return group;
  }

  Handle place(const std::string& path, hid_t type, const Handle& space, Entry& entry) {
    Handle dataset(H5Dcreate2(file_, path.c_str(), type, space, H5P_DEFAULT, dataset_list_, H5P_DEFAULT), H5Dclose);
    if (!dataset) throw failed(path);
    const haddr_t offset = entry.bytes ? H5Dget_offset(dataset) : 0;
    if (offset == HADDR_UNDEF) throw failed(path);
    entry.offset = offset;
    hdf5::put_text(dataset, "checksum", entry.checksum);
    return dataset;
  }

  Error failed(const std::string& path) const {
    return internal_error("'{}': cannot make '{}': {}", path_, path, hdf5::reason());
  }

  hid_t file_;
  const std::string& path_;
  Handle group_list_, dataset_list_;
  std::set<std::string> made_;
};

// A file whose metadata carry checksums (superblock 2, object headers 2), with links and attributes kept in the
// headers.
Handle create_file(const std::string& path, const std::string& target) {
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18);
  H5Pset_alignment(access, 1, data_alignment);
  H5Pset_meta_block_size(access, 8 << 10);
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  H5Pset_file_locking(access, false, true);
  const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation, false);
  Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose);
  if (!file)
    throw input_error("cannot write '{}': {}", target, hdf5::reason());  // now: every other call forgets the reason
  return file;
}

class Writer {
 public:
  Writer(const ModelFile& model, const std::string& target, const ArraySource& from)
      : model_(model), target_(target), from_(from) {
    if (!model.config.is_object() || !model.lineage.is_array())
      throw internal_error("'{}': the configuration must be a JSON object and the lineage a list", target);
    if (!model.run && !model.run_arrays.empty()) throw internal_error("'{}': run arrays without run state", target);
    texts_ = {{"config", text_of(model.config, "configuration")},
              {"tokenizer", text_of(model.tokenizer, "tokenizer")},
              {"lineage", text_of(model.lineage, "lineage")}};
    if (!model.origin.is_null()) texts_.emplace_back("origin", text_of(model.origin, "origin"));
    if (model.run) texts_.emplace_back("run/state", text_of(*model.run, "run state"));
    for (const auto& [name, text] : texts_) sources_.push_back(source_of(name, text));
    for (const auto& [name, encoded] : model.parameters) {
      check(name, encoded);
      for (const auto& [array, tensor] : encoded.arrays)
        sources_.push_back(source_of(Section::parameter, name, array, tensor));
    }
    for (const auto& [name, tensor] : model.run_arrays) {
      if (!is_run_name(name)) throw internal_error("'{}' cannot name a run array", name);
      sources_.push_back(source_of(Section::run, "", name, tensor));
    }
    set_checksums();
    if (from_.read)
      set_read_checksums(promised(), from_.read);
    else
      each_made([](Entry& entry, const Tensor& array) { entry.checksum = checksum_of(array.raw(), array.bytes()); });
    check_stop();
  }

  // Returns the SHA-256 of the file.
  std::string write(const std::string& path) {
    hdf5::quiet();  // prepares the library once, not in every child
    place(isolated([&] { return lay_out(path); }, fmt::format("cannot write '{}': HDF5 fails to lay it out", target_)));
    const Descriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    int error = file ? 0 : errno;
    for (size_t i = 0; i < sources_.size() && error == 0;) error = write_some(file.fd(), i);
    if (error == 0) error = from_.read ? write_read(file.fd(), promised(), from_.read) : write_made(file.fd());
    std::future<std::string> sum;
    if (error == 0) {
      sum = std::async(sha256_of_file, path);  // which takes as long as the device does: both at once
      error = flush_to_device(file.fd());
    }
    if (error != 0) throw input_error("cannot write '{}': {}", target_, std::strerror(error));
    return sum.get();
  }

 private:
  // Of what is in memory, or mapped.
  void set_checksums() {
    uint64_t bytes = 0;
    for (Source& source : sources_) {
      source.entry.checksum.reserve(checksum_digits);
      if (source.data) bytes += source.entry.bytes;
    }
    for_each_of(static_cast<int64_t>(sources_.size()), bytes, [&](int64_t i) {
      Source& source = sources_[static_cast<size_t>(i)];
      if (source.data) checksum_into(source.data, source.entry.bytes, source.entry.checksum);
      let_go(source.tensor);
    });
    check_stop();
  }

  std::vector<Entry*> promised() {
    std::vector<Entry*> entries;
    for (Source& source : sources_)
      if (source.tensor.promised()) entries.push_back(&source.entry);
    return entries;
  }

  // Calls f(entry, array) for each array that was promised, one made after the other.
  template <class F>
  void each_made(F&& f) {
    for (Entry* const entry : promised()) {
      check_stop();
      const Tensor array = from_.make ? from_.make(entry->owner, entry->name) : Tensor();
      if (!array || array.promised() || array.shape() != entry->shape || array.dtype() != entry->dtype)
        throw internal_error("{} is promised and not made", entry->where());
      f(*entry, array);
    }
  }

  int write_made(int fd) {
    int error = 0;
    each_made([&](const Entry& entry, const Tensor& array) {
      const Transfer transfer = {array.raw(), entry.bytes, entry.offset};
      if (error == 0) error = write_all(fd, {&transfer, 1});
    });
    return error;
  }

  // Of the sources from `next` on so many that all threads have work; those of mapped files then leave memory. Returns
  // an errno.
  int write_some(int fd, size_t& next) {
    constexpr uint64_t enough = uint64_t{16} << 20;
    std::vector<Transfer> transfers;
    const size_t first = next;
    for (uint64_t bytes = 0; next < sources_.size() && bytes < enough; ++next) {
      const Source& source = sources_[next];
      if (!source.data) continue;
      transfers.push_back({const_cast<std::byte*>(source.data), source.entry.bytes, source.entry.offset});
      bytes += source.entry.bytes;
    }
    const int error = write_all(fd, transfers);
    for (size_t i = first; i < next; ++i) let_go(sources_[i].tensor);
    return error;
  }

  static void check(const std::string& name, const Encoded& encoded) {
    bool good = !encoded.form.empty() && !encoded.element.empty() && !encoded.shape.empty() && !name.empty();
    for (size_t begin = 0; good && begin <= name.size();) {
      const size_t dot = std::min(name.find('.', begin), name.size());
      good = is_component(std::string_view(name).substr(begin, dot - begin));
      begin = dot + 1;
    }
    for (const auto& [array, tensor] : encoded.arrays) good = good && is_component(array);
    for (const auto& [key, value] : encoded.attributes) good = good && is_form_attribute(key);
    if (!good)
      throw internal_error("parameter '{}' cannot be written: a name, form, element or shape is not allowed", name);
  }

  static std::string group_of(std::string name) {
    for (char& c : name)
      if (c == '.') c = '/';
    return "/parameters/" + name;
  }

  // Makes the file without its data and returns where they go.
  nlohmann::json lay_out(const std::string& path) {
    Handle file = create_file(path, target_);
    hdf5::put_text(file, "format", "hone-model");
    hdf5::put_integer(file, "format_version", model_.version);
    if (const auto notes = model_.notes.find(""); notes != model_.notes.end()) write_notes(file, notes->second);
    {
      Layout layout(file, target_);
      layout.group("/parameters");
      if (model_.run) layout.group("/run/arrays");
      for (const auto& [name, encoded] : model_.parameters) {
        const Handle group = layout.group(group_of(name));
        hdf5::put_text(group, "form", encoded.form);
        hdf5::put_text(group, "element", encoded.element);
        hdf5::put_integers(group, "shape", encoded.shape);
        for (const auto& [key, value] : encoded.attributes) hdf5::put_integer(group, key.c_str(), value);
        if (const auto notes = model_.notes.find(name); notes != model_.notes.end()) write_notes(group, notes->second);
      }
      for (Source& source : sources_) {
        Entry& entry = source.entry;
        switch (entry.section) {
          case Section::text:
            layout.text("/" + entry.name, {reinterpret_cast<const char*>(source.data), entry.bytes}, entry);
            break;
          case Section::parameter:
            layout.array(group_of(entry.owner) + "/" + entry.name, entry);
            break;
          case Section::run:
            layout.array("/run/arrays/" + entry.name, entry);
            break;
        }
      }
    }
    if (!file.close()) throw input_error("cannot write '{}': {}", target_, hdf5::reason());
    nlohmann::json offsets = nlohmann::json::array();
    for (const Source& source : sources_) offsets.push_back(source.entry.offset);
    return offsets;
  }

  void place(const nlohmann::json& offsets) {
    for (size_t i = 0; i < sources_.size(); ++i) sources_[i].entry.offset = offsets.at(i).get<uint64_t>();
  }

  const ModelFile& model_;
  const std::string& target_;
  const ArraySource& from_;
  std::vector<std::pair<const char*, std::string>> texts_;
  std::vector<Source> sources_;
};

bool same_layout(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape();
}

// Everything but the numbers, which the checksums stand for. JSON by its text: a number that is not finite is written
// as null.
bool same(const ModelFile& a, const ModelFile& b) {
  const auto same_arrays = [](const auto& x, const auto& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(), [](const auto& p, const auto& q) {
      return p.first == q.first && same_layout(p.second, q.second);
    });
  };
  const auto same_parameter = [&](const auto& p, const auto& q) {
    const Encoded &x = p.second, &y = q.second;
    return p.first == q.first && x.form == y.form && x.element == y.element && x.shape == y.shape &&
           x.attributes == y.attributes && same_arrays(x.arrays, y.arrays);
  };
  return a.config.dump() == b.config.dump() && a.tokenizer.dump() == b.tokenizer.dump() &&
         a.lineage.dump() == b.lineage.dump() && a.origin.dump() == b.origin.dump() &&
         a.run.has_value() == b.run.has_value() && (!a.run || a.run->dump() == b.run->dump()) &&
         same_arrays(a.run_arrays, b.run_arrays) &&
         std::equal(a.parameters.begin(), a.parameters.end(), b.parameters.begin(), b.parameters.end(), same_parameter);
}

}  // namespace

WrittenFile write_model_file(const std::string& path, const ModelFile& model, bool force, IfTaken taken,
                             const ArraySource& from) {
  for (const auto& [name, encoded] : model.parameters)
    if (encoded.verify) encoded.verify();  // damage must not get a checksum that fits it
  AtomicFile file(path, force, taken);
  const std::string sha256 = Writer(model, path, from).write(file.temporary());
  ModelFile again;
  try {
    again = read_back(file.temporary());
  } catch (const Error& error) {
    throw input_error("cannot write '{}': what was written does not read back ({}); check the disk", path,
                      error.what());
  }
  if (!same(model, again))
    throw input_error("cannot write '{}': what was written reads back differently; check the disk", path);
  struct stat status;
  if (stat(file.temporary().c_str(), &status) != 0)
    throw input_error("cannot write '{}': {}", path, std::strerror(errno));
  return {file.commit(), status.st_size, sha256};
}

}  // namespace hone
