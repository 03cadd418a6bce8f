#include "media/file_bytes.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/spelling.h"
#include "media/medium.h"

namespace hone::media {

std::vector<uint8_t> read_bytes(const std::string& path) {
  constexpr uintmax_t most = uintmax_t{1} << 30;
  std::error_code failed;
  if (!std::filesystem::exists(path, failed)) throw input_error("'{}' does not exist", path);
  if (!std::filesystem::is_regular_file(path, failed)) throw input_error("'{}' is not a file", path);
  const uintmax_t size = std::filesystem::file_size(path, failed);
  if (failed) throw input_error("'{}' cannot be read: {}", path, failed.message());
  if (size > most)
    throw input_error("'{}' has {} bytes: more than one {} should", path, size, either_of(media_words(&Medium::noun)));
  std::ifstream file(path, std::ios::binary);
  std::vector<uint8_t> bytes(size);
  if (!file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size)))
    throw input_error("'{}' cannot be read: {}", path, std::strerror(errno));
  return bytes;
}

}  // namespace hone::media
