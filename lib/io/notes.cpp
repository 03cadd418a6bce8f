#include "io/notes.h"

#include <cstring>

#include "io/hdf5.h"

namespace hone {
namespace {

using hdf5::Handle;
using nlohmann::json;

constexpr uint64_t longest_note = 32 << 10;  // HDF5 keeps attributes of up to 64 KiB in an object's header
constexpr size_t most_notes = 1000;          // of one object

// Whether a value stands for itself, and does not point to another place of its file. Texts of variable length do, but
// can be read apart.
bool is_plain(hid_t type) {
  const H5T_class_t kind = H5Tget_class(type);
  if (kind == H5T_STRING) return true;
  const bool points = H5Tdetect_class(type, H5T_VLEN) != 0 || H5Tdetect_class(type, H5T_REFERENCE) != 0;
  return kind != H5T_NO_CLASS && !points && H5Tdetect_class(type, H5T_STRING) == 0;
}

bool read_shape(hid_t attribute, Note& note, uint64_t& count) {
  const Handle space(H5Aget_space(attribute), H5Sclose);
  const int rank = space ? H5Sget_simple_extent_ndims(space) : -1;
  if (rank < 0) return false;
  note.dims.resize(static_cast<size_t>(rank));
  std::vector<hsize_t> dims(note.dims.size());
  if (rank > 0 && H5Sget_simple_extent_dims(space, dims.data(), nullptr) != rank) return false;
  note.dims.assign(dims.begin(), dims.end());
  note.empty = H5Sget_simple_extent_type(space) == H5S_NULL;
  const hssize_t points = H5Sget_simple_extent_npoints(space);
  count = note.empty ? 0 : static_cast<uint64_t>(std::max<hssize_t>(points, 0));
  return points >= 0 && count <= longest_note;
}

bool read_texts(hid_t attribute, hid_t type, uint64_t count, Note& note) {
  std::vector<char*> texts(static_cast<size_t>(count), nullptr);
  if (count == 0) return true;
  if (H5Aread(attribute, type, texts.data()) < 0) return false;
  for (const char* text : texts)
    if (text) {
      note.data.insert(note.data.end(), text, text + strnlen(text, longest_note + 1) + 1);
    } else {
      note.data.push_back(0);
    }
  const Handle space(H5Aget_space(attribute), H5Sclose);
  H5Dvlen_reclaim(type, space, H5P_DEFAULT, texts.data());
  return note.data.size() <= longest_note;
}

bool read_note(hid_t object, const std::string& name, Note& note) {
  const Handle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose);
  const Handle stored(attribute ? H5Aget_type(attribute) : hid_t{-1}, H5Tclose);
  const Handle type(stored ? H5Tcopy(stored) : hid_t{-1}, H5Tclose);  // no longer bound to the file
  uint64_t count = 0;
  if (!type || !is_plain(type) || !read_shape(attribute, note, count)) return false;
  size_t bytes = 0;
  if (H5Tencode(type, nullptr, &bytes) < 0 || bytes > longest_note) return false;
  note.type.resize(bytes);
  if (H5Tencode(type, note.type.data(), &bytes) < 0) return false;
  note.texts = H5Tis_variable_str(type) > 0;
  if (note.texts) return read_texts(attribute, type, count, note);
  const uint64_t size = H5Tget_size(type);
  if (size == 0 || size > longest_note || count * size > longest_note) return false;
  note.data.resize(static_cast<size_t>(count * size));
  return note.data.empty() || H5Aread(attribute, type, note.data.data()) >= 0;
}

void write_note(hid_t object, const std::string& name, const Note& note) {
  const Handle type(H5Tdecode(note.type.data()), H5Tclose);
  const std::vector<hsize_t> dims(note.dims.begin(), note.dims.end());
  const Handle space(note.empty     ? H5Screate(H5S_NULL)
                     : dims.empty() ? H5Screate(H5S_SCALAR)
                                    : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
                     H5Sclose);
  const Handle list(H5Pcreate(H5P_ATTRIBUTE_CREATE), H5Pclose);
  H5Pset_char_encoding(list, H5T_CSET_UTF8);
  if (!type || !space) return;
  const Handle attribute(H5Acreate2(object, name.c_str(), type, space, list, H5P_DEFAULT), H5Aclose);
  if (!attribute || note.data.empty()) return;
  std::vector<const char*> texts;
  const auto* data = reinterpret_cast<const char*>(note.data.data());
  for (size_t i = 0; note.texts && i < note.data.size(); i += std::strlen(data + i) + 1) texts.push_back(data + i);
  const bool written = H5Awrite(attribute, type, note.texts ? static_cast<const void*>(texts.data()) : data) >= 0;
  if (!written) H5Adelete(object, name.c_str());
}

}  // namespace

Notes read_notes(hid_t object, const std::function<bool(const std::string&)>& ours, const std::string& where) {
  Notes notes;
  for (const std::string& name : hdf5::attribute_names(object, where)) {
    Note note;
    if (ours(name) || notes.size() >= most_notes || !read_note(object, name, note)) continue;
    notes[name] = std::move(note);
  }
  return notes;
}

void write_notes(hid_t object, const Notes& notes) {
  for (const auto& [name, note] : notes) write_note(object, name, note);
}

json to_json(const Notes& notes) {
  json list = json::array();
  for (const auto& [name, n] : notes)
    list.push_back({name, json::binary(n.type), n.dims, n.empty, n.texts, json::binary(n.data)});
  return list;
}

Notes notes_of(const json& list) {
  Notes notes;
  for (const json& n : list) {
    Note& note = notes[n.at(0).get<std::string>()];
    note.type = n.at(1).get_binary();
    note.dims = n.at(2).get<std::vector<uint64_t>>();
    note.empty = n.at(3).get<bool>();
    note.texts = n.at(4).get<bool>();
    note.data = n.at(5).get_binary();
  }
  return notes;
}

}  // namespace hone
