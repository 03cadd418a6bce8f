#include "io/hdf5.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "io/isolate.h"

namespace hone::hdf5 {
namespace {

constexpr size_t longest_text = 1024;

Handle attribute_type(hid_t attribute) {
  return {H5Aget_type(attribute), H5Tclose};
}

Handle open_attribute(hid_t object, const char* name, const std::string& where) {
  if (!has_attribute(object, name))
    throw input_error("{} has no attribute '{}': the file is damaged; use another copy", where, name);
  Handle attribute(H5Aopen(object, name, H5P_DEFAULT), H5Aclose);
  if (!attribute) throw input_error("{}: attribute '{}' cannot be read ({}); use another copy", where, name, reason());
  return attribute;
}

Error wrong_type(const std::string& where, const char* name, const char* wanted) {
  return input_error("{}: attribute '{}' is not {}: the file is damaged; use another copy", where, name, wanted);
}

void put(hid_t object, const char* name, hid_t file_type, hid_t memory_type, hid_t space, const void* value) {
  const Handle attribute(H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!attribute || H5Awrite(attribute, memory_type, value) < 0)
    throw internal_error("attribute '{}' cannot be written: {}", name, reason());
}

}  // namespace

void quiet() {
  const std::unique_lock<std::mutex> library = library_here();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
}

std::string reason() {
  std::string text;
  // Walking downwards, the last visited is the function that found the error.
  const auto visit = [](unsigned, const H5E_error2_t* error, void* context) -> herr_t {
    if (error->desc && *error->desc) *static_cast<std::string*>(context) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, visit, &text);
  // Of a failed call to the system, the system's words are enough; the rest are times and addresses.
  constexpr std::string_view system = "error message = '";
  if (const size_t begin = text.find(system); begin != std::string::npos) {
    const size_t start = begin + system.size();
    return text.substr(start, text.find('\'', start) - start);
  }
  return text.empty() ? "unknown HDF5 error" : text;
}

hid_t little_endian(DType type) {
  switch (type) {
    case DType::f32:
      return H5T_IEEE_F32LE;
    case DType::bf16:
      return H5T_STD_U16LE;
    case DType::i8:
      return H5T_STD_I8LE;
    case DType::u8:
      return H5T_STD_U8LE;
    case DType::i32:
      return H5T_STD_I32LE;
    case DType::u32:
      return H5T_STD_U32LE;
    case DType::i64:
      return H5T_STD_I64LE;
    case DType::u64:
      return H5T_STD_U64LE;
  }
  throw internal_error("element type without HDF5 type");
}

hid_t big_endian(DType type) {
  switch (type) {
    case DType::f32:
      return H5T_IEEE_F32BE;
    case DType::bf16:
      return H5T_STD_U16BE;
    case DType::i8:
      return H5T_STD_I8BE;
    case DType::u8:
      return H5T_STD_U8BE;
    case DType::i32:
      return H5T_STD_I32BE;
    case DType::u32:
      return H5T_STD_U32BE;
    case DType::i64:
      return H5T_STD_I64BE;
    case DType::u64:
      return H5T_STD_U64BE;
  }
  throw internal_error("element type without HDF5 type");
}

Handle text_type(std::string_view text) {
  Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, text.size());
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 128; });
  H5Tset_cset(type, ascii ? H5T_CSET_ASCII : H5T_CSET_UTF8);
  return type;
}

void put_text(hid_t object, const char* name, std::string_view text) {
  const Handle type = text_type(text);
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  put(object, name, type, type, space, text.data());
}

void put_integer(hid_t object, const char* name, int64_t value) {
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  put(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, space, &value);
}

void put_integers(hid_t object, const char* name, const Shape& values) {
  const hsize_t count = values.size();
  const Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
  put(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, space, values.data());
}

bool has_attribute(hid_t object, const char* name) {
  return H5Aexists(object, name) > 0;
}

haddr_t address_of(hid_t object) {
  H5O_info_t info;
#if H5_VERSION_GE(1, 12, 0)  // objects have tokens, which a file's own driver translates
  haddr_t address = HADDR_UNDEF;
  if (H5Oget_info3(object, &info, H5O_INFO_BASIC) < 0 || H5VLnative_token_to_addr(object, info.token, &address) < 0)
    return HADDR_UNDEF;
  return address;
#else
  return H5Oget_info2(object, &info, H5O_INFO_BASIC) < 0 ? HADDR_UNDEF : info.addr;
#endif
}

std::string get_text(hid_t object, const char* name, const std::string& where) {
  const Handle attribute = open_attribute(object, name, where);
  const Handle type = attribute_type(attribute);
  const Handle space(H5Aget_space(attribute), H5Sclose);
  // A string of variable length lies elsewhere in the file, behind a pointer without a checksum.
  if (!type || !space || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
      H5Sget_simple_extent_npoints(space) != 1)
    throw wrong_type(where, name, "one string of fixed length");
  const size_t size = H5Tget_size(type);
  if (size == 0 || size > longest_text) throw wrong_type(where, name, "a short string");
  std::string text(size, '\0');
  if (H5Aread(attribute, type, text.data()) < 0)
    throw input_error("{}: attribute '{}' cannot be read ({}); use another copy", where, name, reason());
  return text.substr(0, text.find('\0'));
}

std::vector<int64_t> get_integers(hid_t object, const char* name, size_t limit, const std::string& where) {
  const Handle attribute = open_attribute(object, name, where);
  const Handle type = attribute_type(attribute);
  const Handle space(H5Aget_space(attribute), H5Sclose);
  if (!type || !space || H5Tget_class(type) != H5T_INTEGER || H5Tget_size(type) > sizeof(int64_t))
    throw wrong_type(where, name, "an integer");
  const hssize_t count = H5Sget_simple_extent_npoints(space);
  if (count < 1 || static_cast<uint64_t>(count) > limit)
    throw wrong_type(where, name, limit == 1 ? "one integer" : "a short list of integers");
  std::vector<int64_t> values(static_cast<size_t>(count));
  if (H5Aread(attribute, H5T_NATIVE_INT64, values.data()) < 0)
    throw input_error("{}: attribute '{}' cannot be read ({}); use another copy", where, name, reason());
  return values;
}

int64_t get_integer(hid_t object, const char* name, const std::string& where) {
  return get_integers(object, name, 1, where)[0];
}

// The callbacks below stand between C frames: an exception must not leave them.

std::vector<std::string> attribute_names(hid_t object, const std::string& where) {
  std::vector<std::string> names;
  const auto visit = [](hid_t, const char* name, const H5A_info_t*, void* context) -> herr_t {
    try {
      static_cast<std::vector<std::string>*>(context)->emplace_back(name);
      return 0;
    } catch (...) {
      return -1;
    }
  };
  if (H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, nullptr, visit, &names) < 0)
    throw input_error("{}: its attributes cannot be listed ({}); use another copy", where, reason());
  return names;
}

std::vector<Link> links_of(hid_t group, const std::string& where) {
  std::vector<Link> links;
  const auto visit = [](hid_t, const char* name, const H5L_info_t* info, void* context) -> herr_t {
    try {
      static_cast<std::vector<Link>*>(context)->push_back({name, info->type == H5L_TYPE_HARD});
      return 0;
    } catch (...) {
      return -1;
    }
  };
  if (H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, visit, &links) < 0)
    throw input_error("{}: its members cannot be listed ({}); use another copy", where, reason());
  return links;
}

}  // namespace hone::hdf5
