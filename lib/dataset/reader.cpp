#include "dataset/reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/stop.h"
#include "dataset/utf8.h"

namespace hone {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ > 2) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return fd_; }

 private:
  int fd_;
};

struct Bytes {
  std::string_view text;
  std::shared_ptr<const void> owner;
};

Bytes in_memory(std::string text) {
  auto owner = std::make_shared<const std::string>(std::move(text));
  return {*owner, owner};
}

Bytes read_to_end(int fd, const std::string& name) {
  std::string text;
  size_t used = 0;
  for (;;) {
    if (text.size() - used < (size_t{1} << 16)) text.resize(std::max<size_t>(size_t{1} << 20, 2 * text.size()));
    const ssize_t got = ::read(fd, text.data() + used, text.size() - used);
    check_stop();
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw input_error("cannot read {}: {}", name, std::strerror(errno));
    if (got == 0) break;
    used += static_cast<size_t>(got);
  }
  text.resize(used);
  text.shrink_to_fit();
  return in_memory(std::move(text));
}

Bytes map_whole(int fd, size_t size, const std::string& name) {
  if (size == 0) return {};
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (start == MAP_FAILED) throw input_error("cannot map {} into memory: {}", name, std::strerror(errno));
  std::shared_ptr<const void> owner(start, [size](const void* p) { ::munmap(const_cast<void*>(p), size); });
  return {std::string_view(static_cast<const char*>(start), size), std::move(owner)};
}

Bytes bytes_of_file(const std::string& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check_stop();
  if (fd < 0) throw input_error("cannot open {}: {}", path, std::strerror(errno));
  struct stat status;
  if (::fstat(fd, &status) != 0) throw input_error("cannot read {}: {}", path, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) throw input_error("{} is a directory: name the text files in it", path);
  // Pipes and devices have no size to map. Neither have the files of /proc, whose size reads as 0.
  if (!S_ISREG(status.st_mode) || status.st_size == 0) return read_to_end(fd, path);
  return map_whole(fd, static_cast<size_t>(status.st_size), path);
}

TextSource read_plain(Bytes bytes, std::string name) {
  TextSource source{std::move(name), {}, std::move(bytes.owner)};
  if (!bytes.text.empty()) source.documents.push_back(bytes.text);
  return source;
}

struct Line {
  std::string text;
  size_t answer;  // where it begins
};

// The document of one line. nlohmann's exceptions quote the text, which may be long and of any kind, so only their
// reason is kept.
Line document_of_line(std::string_view line, const std::string& name, size_t number) {
  const size_t valid = valid_utf8_prefix(line);
  if (valid < line.size())
    throw input_error("{}, line {}: byte {} is not valid UTF-8: convert the file to UTF-8", name, number, valid + 1);
  nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
  if (json.is_discarded()) throw input_error("{}, line {}: not JSON: each line must be one JSON object", name, number);
  const auto member = [&](const char* key) -> std::string* {
    const auto found = json.is_object() ? json.find(key) : json.end();
    return !json.is_object() || found == json.end() || !found->is_string() ? nullptr : &found->get_ref<std::string&>();
  };
  if (std::string* text = member("text")) {
    const size_t size = text->size();
    return {std::move(*text), size};
  }
  std::string *prompt = member("prompt"), *answer = member("answer");
  if (!prompt || !answer)
    throw input_error(
        "{}, line {}: not an object with a string \"text\", such as {{\"text\": \"…\"}}, or with \"prompt\" and "
        "\"answer\"",
        name, number);
  return {*prompt + *answer, prompt->size()};
}

TextSource read_jsonl(Bytes bytes, std::string name) {
  auto buffer = std::make_shared<std::string>();
  std::vector<size_t> ends, answers;  // of the documents in the buffer, which moves as it grows
  std::string_view rest = bytes.text;
  for (size_t number = 1; !rest.empty(); ++number) {
    check_stop();
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const Line document = document_of_line(line, name, number);
    if (document.text.empty()) continue;
    *buffer += document.text;
    ends.push_back(buffer->size());
    answers.push_back(document.answer);
  }
  TextSource source{std::move(name), {}, buffer, std::move(answers)};
  source.documents.reserve(ends.size());
  size_t begin = 0;
  for (const size_t end : ends) {
    source.documents.push_back(std::string_view(*buffer).substr(begin, end - begin));
    begin = end;
  }
  return source;
}

struct Format {
  std::string_view extension;
  TextSource (*read)(Bytes, std::string name);
};

// By extension; what is not here is plain text.
constexpr Format formats[] = {{".jsonl", read_jsonl}};

TextSource checked(TextSource source) {
  if (source.documents.empty()) throw input_error("{} holds no text", source.name);
  return source;
}

}  // namespace

int64_t TextSource::bytes() const {
  size_t sum = 0;
  for (const auto& document : documents) sum += document.size();
  return static_cast<int64_t>(sum);
}

TextSource open_text(const std::string& path) {
  if (path == "-") return checked(read_plain(read_to_end(STDIN_FILENO, "standard input"), "standard input"));
  for (const Format& format : formats)
    if (std::string_view(path).ends_with(format.extension)) return checked(format.read(bytes_of_file(path), path));
  return checked(read_plain(bytes_of_file(path), path));
}

std::vector<TextSource> open_texts(const std::vector<std::string>& paths) {
  if (std::count(paths.begin(), paths.end(), "-") > 1) throw usage_error("'-' (standard input) can be read only once");
  std::vector<TextSource> sources;
  sources.reserve(paths.size());
  for (const auto& path : paths) sources.push_back(open_text(path));
  return sources;
}

std::vector<std::string_view> documents_of(const std::vector<TextSource>& sources) {
  std::vector<std::string_view> all;
  for (const auto& source : sources) all.insert(all.end(), source.documents.begin(), source.documents.end());
  return all;
}

TextSource text_in_memory(std::string text, std::string name) {
  return checked(read_plain(in_memory(std::move(text)), std::move(name)));
}

std::string name_of(const std::vector<TextSource>& sources) {
  if (sources.size() == 1) return sources[0].name;
  return fmt::format("{} and {} more", sources[0].name, sources.size() - 1);
}

}  // namespace hone
