#include "io/row_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "base/stop.h"
#include "io/checksum.h"

namespace hone {
namespace {

constexpr std::string_view magic = "hone row file 1\n";
constexpr int64_t alignment = 64, most_header = 1 << 20;

int64_t aligned(int64_t offset) {
  return (offset + alignment - 1) / alignment * alignment;
}

void put(int fd, const void* data, int64_t bytes, int64_t offset, const std::string& path) {
  const Transfer transfer = {static_cast<std::byte*>(const_cast<void*>(data)), static_cast<uint64_t>(bytes),
                             static_cast<uint64_t>(offset)};
  if (const int error = write_all(fd, std::span(&transfer, 1)))
    throw input_error("cannot write '{}': {}", path, std::strerror(error));
}

Error not_ours(const std::string& path) {
  return input_error("'{}' is no file of rows of Hone, or is damaged; remove it, or name another", path);
}

}  // namespace

RowFileWriter::RowFileWriter(const std::string& path, bool force, nlohmann::json about, int64_t rows,
                             const std::vector<int64_t>& row_bytes)
    : file_(path, force), about_(std::move(about)), rows_(rows) {
  for (const int64_t bytes : row_bytes) arrays_.push_back({bytes, int64_t{1} << 60});  // as long as offsets get
  int64_t end = static_cast<int64_t>(magic.size() + sizeof(uint64_t) + header().size());
  for (Array& array : arrays_) {
    array.offset = aligned(end);
    end = array.offset + rows_ * array.row_bytes;
  }
  bytes_ = end;
  descriptor_ = Descriptor(open(file_.temporary().c_str(), O_RDWR | O_CLOEXEC));
  if (!descriptor_) throw input_error("cannot write '{}': {}", file_.temporary(), std::strerror(errno));
  if (const int error = posix_fallocate(descriptor_.fd(), 0, bytes_))
    throw input_error("cannot write {} bytes for '{}': {}", bytes_, path, std::strerror(error));
}

std::string RowFileWriter::header() const {
  nlohmann::json arrays = nlohmann::json::array();
  for (const Array& a : arrays_)
    arrays.push_back({{"row_bytes", a.row_bytes}, {"offset", a.offset}, {"checksum", a.checksum}});
  return nlohmann::json({{"about", about_}, {"rows", rows_}, {"arrays", arrays}}).dump();
}

void RowFileWriter::write(size_t array, int64_t first, int64_t count, const void* data) {
  const Array& a = arrays_[array];
  put(descriptor_.fd(), data, count * a.row_bytes, a.offset + first * a.row_bytes, file_.target());
}

void RowFileWriter::commit() {
  const auto storage = map_file(descriptor_.fd(), static_cast<uint64_t>(bytes_));
  if (!storage) throw input_error("cannot read '{}' back: {}", file_.target(), std::strerror(errno));
  for (Array& a : arrays_) {
    a.checksum = checksum_of(storage->data() + a.offset, static_cast<size_t>(rows_ * a.row_bytes));
    check_stop();
  }
  const std::string text = header();
  const uint64_t length = text.size();
  const auto at = static_cast<int64_t>(magic.size());
  put(descriptor_.fd(), magic.data(), at, 0, file_.target());
  put(descriptor_.fd(), &length, sizeof length, at, file_.target());
  put(descriptor_.fd(), text.data(), static_cast<int64_t>(length), at + static_cast<int64_t>(sizeof length),
      file_.target());
  descriptor_ = Descriptor();
  file_.commit();
}

RowFile read_row_file(const std::string& path) {
  const Descriptor descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!descriptor) throw input_error("cannot open '{}': {}", path, std::strerror(errno));
  struct stat status {};
  const auto begin = static_cast<int64_t>(magic.size() + sizeof(uint64_t));
  if (fstat(descriptor.fd(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < begin) throw not_ours(path);
  const int64_t size = status.st_size;
  const auto storage = map_file(descriptor.fd(), static_cast<uint64_t>(size));
  if (!storage) throw input_error("cannot map '{}': {}", path, std::strerror(errno));
  const char* data = reinterpret_cast<const char*>(storage->data());
  uint64_t length = 0;
  std::memcpy(&length, data + magic.size(), sizeof length);
  if (std::string_view(data, magic.size()) != magic ||
      length > static_cast<uint64_t>(std::min(size - begin, most_header)))
    throw not_ours(path);
  RowFile file;
  try {
    const nlohmann::json header = parse_json({data + begin, length});
    file.about = header.at("about");
    file.rows = header.at("rows").get<int64_t>();
    for (const auto& array : header.at("arrays")) {
      const auto row = array.at("row_bytes").get<int64_t>(), offset = array.at("offset").get<int64_t>();
      int64_t bytes = 0;
      if (file.rows < 1 || row < 1 || offset < begin || offset % alignment != 0 || offset > size ||
          __builtin_mul_overflow(file.rows, row, &bytes) || bytes > size - offset)
        throw not_ours(path);
      if (checksum_of(data + offset, static_cast<size_t>(bytes)) != array.at("checksum").get<std::string>())
        throw input_error("'{}' is damaged: an array differs from its checksum; remove the file", path);
      check_stop();
      file.arrays.push_back(Tensor::over(storage, static_cast<size_t>(offset), {file.rows, row}, DType::u8));
    }
  } catch (const nlohmann::json::exception&) {
    throw not_ours(path);
  }
  return file;
}

}  // namespace hone
