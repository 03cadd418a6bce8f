// Files that are damaged, or made to do harm: reading gives the model that was written, or one sentence.
#include <doctest/doctest.h>
#include <hdf5.h>

#include <cstring>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "io/checksum.h"
#include "io/model_file.h"
#include "lib/io/example.h"

using namespace hone;
using test::complaint;
using test::Scratch;

namespace {

constexpr const char* embedding = "/parameters/embedding/weight";
constexpr const char* values = "/parameters/embedding/weight/values";

// Writes the example to `path` and lets `change` do to it what our writer would never do.
void write_changed(const std::string& path, const std::function<void(hid_t)>& change) {
  write_model_file(path, test::example(true), true);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  REQUIRE(file >= 0);
  change(file);
  REQUIRE(H5Fclose(file) >= 0);
}

void put_integer(hid_t file, const char* object, const char* name, int64_t value) {
  if (H5Aexists_by_name(file, object, name, H5P_DEFAULT) > 0) H5Adelete_by_name(file, object, name, H5P_DEFAULT);
  const hid_t space = H5Screate(H5S_SCALAR);
  const hid_t a = H5Acreate_by_name(file, object, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Awrite(a, H5T_NATIVE_INT64, &value);
  H5Aclose(a);
  H5Sclose(space);
}

void put_text(hid_t file, const char* object, const char* name, const std::string& text, bool variable = false) {
  if (H5Aexists_by_name(file, object, name, H5P_DEFAULT) > 0) H5Adelete_by_name(file, object, name, H5P_DEFAULT);
  const hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, variable ? H5T_VARIABLE : text.size());  // without a terminator
  const hid_t a = H5Acreate_by_name(file, object, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  const char* pointer = text.c_str();
  H5Awrite(a, type, variable ? static_cast<const void*>(&pointer) : pointer);
  H5Aclose(a);
  H5Tclose(type);
  H5Sclose(space);
}

// Replaces a dataset by another of the given type, shape and creation list, with the old attributes.
void replace(hid_t file, const char* path, hid_t type, std::vector<hsize_t> dims, hid_t list, const Tensor* data) {
  H5Ldelete(file, path, H5P_DEFAULT);
  const hid_t space = H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
  const hid_t dataset = H5Dcreate2(file, path, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
  REQUIRE(dataset >= 0);
  if (data) {
    REQUIRE(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data->raw()) >= 0);
    put_text(file, path, "checksum", checksum_of(data->raw(), data->bytes()));
  } else {
    put_text(file, path, "checksum", "0000000000000000");
  }
  put_text(file, path, "element_type", "f32");
  H5Dclose(dataset);
  H5Sclose(space);
}

void replace_text(hid_t file, const char* path, const std::string& text) {
  H5Ldelete(file, path, H5P_DEFAULT);
  const hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, text.size());
  const hid_t dataset = H5Dcreate2(file, path, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data());
  H5Dclose(dataset);
  put_text(file, path, "checksum", checksum_of(text.data(), text.size()));
  H5Tclose(type);
  H5Sclose(space);
}

std::string complaint_after(const std::function<void(hid_t)>& change, ReadOptions options = {.run = true}) {
  const Scratch scratch;
  write_changed(scratch / "m.h5", change);
  const std::string text = complaint(scratch / "m.h5", options);
  CHECK_MESSAGE((text.empty() || text.find("/m.h5'") != std::string::npos), text);
  return text;
}

bool says(const std::string& text, const char* part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("the message is: " << text);
  return false;
}

// A copy as other tools write it: the oldest format, whose structures have no checksums, arrays wherever they fall.
void copy_in_old_format(const std::string& from, const std::string& to) {
  const hid_t source = H5Fopen(from.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t target = H5Fcreate(to.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  for (const char* name : {"config", "tokenizer", "lineage", "parameters", "run"})
    REQUIRE(H5Ocopy(source, name, target, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
  put_text(target, "/", "format", "hone-model");
  put_integer(target, "/", "format_version", 1);
  H5Fclose(target);
  H5Fclose(source);
}

}  // namespace

TEST_CASE("files of other kinds") {
  const Scratch scratch;
  CHECK(says(complaint(scratch / "none.h5"), "No such file"));
  CHECK(says(complaint(scratch / "."), "not a regular file"));
  test::put_bytes(scratch / "empty.h5", "");
  CHECK(says(complaint(scratch / "empty.h5"), "is empty"));
  test::put_bytes(scratch / "text.h5", std::string(5000, 'x'));
  CHECK(says(complaint(scratch / "text.h5"), "is not an HDF5 file"));
  H5Fclose(H5Fcreate((scratch / "other.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  CHECK(says(complaint(scratch / "other.h5"), "not a model of hone"));
}

TEST_CASE("format versions") {
  CHECK(says(complaint_after([](hid_t f) { put_integer(f, "/", "format_version", 6); }),
             "was written by a newer version of hone (format 6); this version reads up to 5: update hone"));
  CHECK(says(complaint_after([](hid_t f) { put_integer(f, "/", "format_version", 0); }), "format_version 0"));
  CHECK(says(complaint_after([](hid_t f) { put_text(f, "/", "format_version", "1"); }), "is not an integer"));
  CHECK(says(complaint_after([](hid_t f) { put_text(f, "/", "format", "other-model"); }), "not a model of hone"));
  CHECK(says(complaint_after([](hid_t f) { put_integer(f, "/", "format", 1); }), "'format' is not one string"));
}

TEST_CASE("attributes that are missing or of another type") {
  const auto without = [](const char* object, const char* name) {
    return complaint_after([=](hid_t f) { H5Adelete_by_name(f, object, name, H5P_DEFAULT); });
  };
  CHECK(says(without(values, "checksum"), "parameter 'embedding.weight' dataset 'values' has no attribute 'checksum'"));
  CHECK(says(without(values, "element_type"), "has no attribute 'element_type'"));
  CHECK(says(without(embedding, "shape"), "parameter 'embedding.weight' has no attribute 'shape'"));
  CHECK(says(without(embedding, "form"), "does not belong to a parameter"));
  CHECK(says(without("/config", "checksum"), "dataset 'config' has no attribute 'checksum'"));
  CHECK(
      says(complaint_after([](hid_t f) { put_text(f, embedding, "form", "dense", true); }), "string of fixed length"));
  CHECK(says(complaint_after([](hid_t f) { put_text(f, embedding, "form", std::string(5000, 'x')); }), "short string"));
  CHECK(says(complaint_after([](hid_t f) { put_text(f, embedding, "group", "x"); }), "'group' is not an integer"));
  CHECK(says(complaint_after([](hid_t f) { put_integer(f, embedding, "shape", -4); }), "impossible shape [-4]"));
  CHECK(
      says(complaint_after([](hid_t f) { put_text(f, values, "element_type", "f99"); }), "unknown element_type 'f99'"));
  CHECK(says(complaint_after([](hid_t f) { put_text(f, values, "element_type", "i32"); }),
             "not stored as its element_type"));
}

TEST_CASE("datasets that are missing, or not datasets") {
  for (const char* name : {"/config", "/tokenizer", "/lineage", "/parameters", "/run/state", "/run/arrays"})
    CHECK(says(complaint_after([=](hid_t f) { H5Ldelete(f, name, H5P_DEFAULT); }), "is missing"));
  CHECK(says(complaint_after([](hid_t f) {
               H5Ldelete(f, "/config", H5P_DEFAULT);
               H5Gclose(H5Gcreate2(f, "/config", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
             }),
             "is not a dataset"));
}

TEST_CASE("links out of the file or round in it are not followed") {
  const auto linked = [](const std::function<void(hid_t, const char*)>& link) {
    return complaint_after([&](hid_t f) {
      H5Ldelete(f, values, H5P_DEFAULT);
      link(f, values);
    });
  };
  const Scratch scratch;
  write_model_file(scratch / "secret.h5", test::example(false), false);
  const std::string secret = scratch / "secret.h5";
  CHECK(says(linked([&](hid_t f, const char* path) {
               H5Lcreate_external(secret.c_str(), values, f, path, H5P_DEFAULT, H5P_DEFAULT);
             }),
             "is a link to another place"));
  CHECK(says(linked([](hid_t f, const char* path) { H5Lcreate_soft("/config", f, path, H5P_DEFAULT, H5P_DEFAULT); }),
             "is a link to another place"));
  CHECK(says(linked([](hid_t f, const char* path) { H5Lcreate_hard(f, "/config", f, path, H5P_DEFAULT, H5P_DEFAULT); }),
             "is linked to twice"));
  CHECK(says(
      linked([](hid_t f, const char* path) { H5Lcreate_hard(f, "/parameters", f, path, H5P_DEFAULT, H5P_DEFAULT); }),
      "is linked to twice"));
  CHECK(says(complaint_after([](hid_t f) {
               std::string path = "/parameters";
               for (int i = 0; i < 50; ++i)
                 H5Gclose(H5Gcreate2(f, (path += "/a").c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
             }),
             "too many groups"));
  CHECK(says(complaint_after(
                 [](hid_t f) { H5Gclose(H5Gcreate2(f, "/parameters/a.b", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)); }),
             "not allowed"));
}

TEST_CASE("data in other files are not read") {
  const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  const Scratch elsewhere;
  test::put_bytes(elsewhere / "other.bin", std::string(60, 'x'));
  H5Pset_external(list, (elsewhere / "other.bin").c_str(), 0, 60);
  CHECK(says(complaint_after([&](hid_t f) {
               replace(f, values, H5T_IEEE_F32LE, {5, 3}, list, nullptr);
             }),
             "keeps its data in other files"));
  H5Pclose(list);
  const hid_t virtual_list = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t dims[2] = {5, 3};
  const hid_t space = H5Screate_simple(2, dims, nullptr);
  H5Pset_virtual(virtual_list, space, "other.h5", "values", space);
  CHECK(says(complaint_after([&](hid_t f) {
               replace(f, values, H5T_IEEE_F32LE, {5, 3}, virtual_list, nullptr);
             }),
             "keeps its data in other files"));
  H5Sclose(space);
  H5Pclose(virtual_list);
}

TEST_CASE("promises of more data than there are take no memory") {
  const hsize_t huge = hsize_t{1} << 40;
  const auto contiguous = [&](std::vector<hsize_t> dims) {
    return complaint_after([&](hid_t f) { replace(f, values, H5T_IEEE_F32LE, dims, H5P_DEFAULT, nullptr); });
  };
  CHECK(says(contiguous({huge}), "reaches beyond the end of the file"));
  CHECK(says(contiguous({huge, huge / 4}), "impossible shape"));
  CHECK(says(contiguous(std::vector<hsize_t>(9, 1)), "at most 8 dimensions"));
  const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t chunk = 1 << 20;
  H5Pset_chunk(list, 1, &chunk);
  H5Pset_deflate(list, 1);
  CHECK(says(complaint_after([&](hid_t f) { replace(f, values, H5T_IEEE_F32LE, {huge}, list, nullptr); }),
             "bytes of storage"));
  H5Pclose(list);
  CHECK(says(complaint_after([](hid_t f) {
               replace(f, values, H5T_IEEE_F64LE, {5, 3}, H5P_DEFAULT, nullptr);
             }),
             "not stored as its element_type 'f32'"));
}

TEST_CASE("files that other tools have rewritten read the same") {
  const Scratch scratch;
  const ModelFile model = test::example(true);
  const Tensor data = model.parameters.at("embedding.weight").arrays.at("values");
  const auto check = [&](const std::string& path) {
    CHECK(test::same(read_model_file(path, {.run = true}), model));
    CHECK(test::same(read_model_file(path, {.map = false, .run = true}), model));
  };
  const hid_t chunked = H5Pcreate(H5P_DATASET_CREATE), compact = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t chunk[2] = {2, 3};
  H5Pset_chunk(chunked, 2, chunk);
  H5Pset_shuffle(chunked);
  H5Pset_deflate(chunked, 6);
  H5Pset_layout(compact, H5D_COMPACT);
  for (const hid_t list : {hid_t{H5P_DEFAULT}, chunked, compact})
    for (const hid_t type : {H5T_IEEE_F32LE, H5T_IEEE_F32BE}) {
      write_changed(scratch / "m.h5", [&](hid_t f) { replace(f, values, type, {5, 3}, list, &data); });
      check(scratch / "m.h5");
    }
  H5Pclose(chunked);
  H5Pclose(compact);
  write_model_file(scratch / "m.h5", model, true);
  copy_in_old_format(scratch / "m.h5", scratch / "old.h5");
  check(scratch / "old.h5");
}

TEST_CASE("JSON that is not JSON, although its checksum is right") {
  CHECK(says(complaint_after([](hid_t f) { replace_text(f, "/config", "{\"a\": "); }), "dataset 'config' is not JSON"));
  CHECK(says(complaint_after([](hid_t f) { replace_text(f, "/config", "[1]"); }), "not a JSON object"));
  CHECK(says(complaint_after([](hid_t f) { replace_text(f, "/lineage", "{}"); }), "not a JSON list"));
  CHECK(says(complaint_after([](hid_t f) { replace_text(f, "/tokenizer", "\"\xff\""); }), "is not JSON"));
  CHECK(
      says(complaint_after([](hid_t f) { replace_text(f, "/run/state", std::string(70, '[') + std::string(70, ']')); }),
           "nested more than 64"));
  const std::string brackets = fmt::format("\"{}\\\"\"", std::string(70, '['));  // within a string: nothing is nested
  CHECK(complaint_after([&](hid_t f) { replace_text(f, "/tokenizer", brackets); }) == "");
}

TEST_CASE("a flipped bit in any array or text is found, and the message names it") {
  const Scratch scratch;
  const ModelFile model = test::example(true);
  write_model_file(scratch / "m.h5", model, false);
  const std::string good = test::bytes_of(scratch / "m.h5");
  const auto flipped = [&](const void* data, size_t bytes) {
    const size_t at = good.find(std::string_view(static_cast<const char*>(data), bytes));
    REQUIRE(at != std::string::npos);
    CHECK(at % 64 == 0);
    std::string bad = good;
    bad[at + bytes / 2] = static_cast<char>(bad[at + bytes / 2] ^ 1);
    test::put_bytes(scratch / "bad.h5", bad);
    return complaint(scratch / "bad.h5", {.run = true});
  };
  for (const auto& [name, encoded] : model.parameters)
    for (const auto& [array, tensor] : encoded.arrays) {
      if (tensor.bytes() == 0) continue;
      const std::string text = flipped(tensor.raw(), tensor.bytes());
      CHECK(text ==
            fmt::format("'{}': parameter '{}' dataset '{}' does not match its checksum: the file is damaged; use "
                        "another copy",
                        scratch / "bad.h5", name, array));
    }
  for (const auto& [name, tensor] : model.run_arrays)
    CHECK(says(flipped(tensor.raw(), tensor.bytes()), ("run array '" + name + "' does not match").c_str()));
  for (const auto* text : {&model.config, &model.tokenizer, &model.lineage, &*model.run})
    CHECK(says(flipped(text->dump(-1, ' ', true).data(), text->dump(-1, ' ', true).size()),
               "does not match its checksum"));
  // Texts are compared even where arrays are not asked to be.
  CHECK(says(complaint(scratch / "bad.h5", {.verify = false, .run = true}), "dataset 'run/state' does not match"));
}

TEST_CASE("what others put beside a model is passed over, and attributes are kept") {
  const Scratch scratch;
  const ModelFile model = test::example(true);
  write_changed(scratch / "m.h5", [](hid_t f) {
    put_integer(f, "/", "answer", 42);
    put_text(f, "/", "note", "fixed");
    put_text(f, "/", "long_note", "of variable length", true);
    put_text(f, embedding, "note", "beside a parameter", true);
    put_text(f, values, "note", "beside an array");
    for (const char* path : {"/mine", "/parameters/mine", "/parameters/embedding/weight/mine too"}) {
      const hid_t space = H5Screate(H5S_SCALAR);
      H5Dclose(H5Dcreate2(f, path, H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
      H5Sclose(space);
    }
    H5Gclose(H5Gcreate2(f, "/parameters/empty", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    const double numbers[2] = {1.5, -2};
    const hsize_t two = 2;
    const hid_t space = H5Screate_simple(1, &two, nullptr);
    const hid_t a = H5Acreate2(f, "numbers", H5T_IEEE_F64BE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(a, H5T_NATIVE_DOUBLE, numbers);
    H5Aclose(a);
    // References lead to places of this file and are not kept.
    const hid_t r = H5Acreate2(f, "reference", H5T_STD_REF_OBJ, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Aclose(r);
    H5Sclose(space);
  });
  ModelFile read = read_model_file(scratch / "m.h5", {.run = true});
  CHECK(test::same(read, model));
  CHECK(read.notes.at("").size() == 4);
  CHECK(read.notes.at("embedding.weight").size() == 1);
  read.notes["no.such.parameter"] = read.notes.at("");
  write_model_file(scratch / "again.h5", read, false);
  const ModelFile again = read_model_file(scratch / "again.h5", {.run = true});
  CHECK(test::same(again, model));
  CHECK(again.notes.size() == 2);
  const hid_t file = H5Fopen((scratch / "again.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const auto value = [&](const char* object, const char* name, hid_t type, auto* into) {
    const hid_t a = H5Aopen_by_name(file, object, name, H5P_DEFAULT, H5P_DEFAULT);
    REQUIRE(a >= 0);
    const hid_t stored = H5Aget_type(a);
    CHECK(H5Aread(a, type < 0 ? stored : type, into) >= 0);
    H5Tclose(stored);
    H5Aclose(a);
  };
  int64_t answer = 0;
  double numbers[2] = {};
  char fixed[6] = "";
  char* variable = nullptr;
  value("/", "answer", H5T_NATIVE_INT64, &answer);
  value("/", "numbers", H5T_NATIVE_DOUBLE, numbers);
  value("/", "note", -1, fixed);
  CHECK(answer == 42);
  CHECK((numbers[0] == 1.5 && numbers[1] == -2));
  CHECK(std::string(fixed, 5) == "fixed");
  value("/", "long_note", -1, &variable);
  CHECK(std::string(variable) == "of variable length");
  H5free_memory(variable);
  value(embedding, "note", -1, &variable);
  CHECK(std::string(variable) == "beside a parameter");
  H5free_memory(variable);
  H5Fclose(file);
}

TEST_CASE("texts of variable length, as netCDF's tools make them, are read and compared with their checksum") {
  const auto changed = [](const std::string& text, const std::string& summed) {
    return complaint_after([&](hid_t f) {
      H5Ldelete(f, "/tokenizer", H5P_DEFAULT);
      const hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1);
      H5Tset_size(type, H5T_VARIABLE);
      const hid_t dataset = H5Dcreate2(f, "/tokenizer", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
      const char* pointer = text.c_str();
      H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, &pointer);
      H5Dclose(dataset);
      put_text(f, "/tokenizer", "checksum", checksum_of(summed.data(), summed.size()));
      H5Tclose(type);
      H5Sclose(space);
    });
  };
  CHECK(changed("{\"a\": 1}", "{\"a\": 1}") == "");
  CHECK(says(changed("{\"a\": 2}", "{\"a\": 1}"), "does not match its checksum"));
}

TEST_CASE("texts that are ASCII are marked so: some readers stop at UTF-8") {
  const Scratch scratch;
  write_model_file(scratch / "m.h5", test::example(true), false);
  const hid_t file = H5Fopen((scratch / "m.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const auto is_ascii = [](hid_t type) {
    const bool ascii = H5Tget_cset(type) == H5T_CSET_ASCII;
    H5Tclose(type);
    return ascii;
  };
  for (const char* name : {"/config", "/tokenizer", "/lineage", "/run/state"}) {
    const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT), sum = H5Aopen(dataset, "checksum", H5P_DEFAULT);
    CHECK(is_ascii(H5Dget_type(dataset)));
    CHECK(is_ascii(H5Aget_type(sum)));
    H5Aclose(sum);
    H5Dclose(dataset);
  }
  H5Fclose(file);
  CHECK(read_model_file(scratch / "m.h5").config["name"] == "Größe");
}
