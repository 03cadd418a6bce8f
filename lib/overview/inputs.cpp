#include "overview/inputs.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"
#include "base/stop.h"
#include "io/model_file.h"
#include "model/config.h"

namespace hone {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uintmax_t most_bytes = 256 << 20;  // of logs and results

enum class Kind { log, scores, speeds, other };

// By the members of its lines.
Kind kind_of_row(const json& row) {
  if (!row.is_object()) return Kind::other;
  const auto number = [&](const char* name) { return row.contains(name) && row[name].is_number(); };
  if (number("step") && row.contains("loss")) return Kind::log;
  if (row.contains("model") && number("repeat")) return Kind::speeds;
  if (row.contains("model") && row.contains("loss") && row.contains("file_bytes")) return Kind::scores;
  return Kind::other;
}

bool has_ending(const std::string& path, std::string_view ending) {
  return path.size() > ending.size() && path.ends_with(ending);
}

std::string name_of_file(const std::string& path) {
  return in_utf8(fs::path(path).filename().string());  // a name may be any bytes, a page is UTF-8
}

bool is_hdf5(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char head[8] = {};
  file.read(head, sizeof head);
  return file.gcount() == sizeof head && std::string_view(head, sizeof head) == "\x89HDF\r\n\x1a\n";
}

ListedModel read_model(const std::string& path) {
  ReadOptions read;
  read.parameters = false;
  const ModelFile file = read_model_file(path, read);
  const Config config = config_from_json(file.config, fmt::format("'{}'", path));
  ListedModel model;
  model.name = name_of_file(path);
  model.sha256 = sha256_of_file(path);
  model.file_bytes = static_cast<int64_t>(fs::file_size(path));
  model.checkpoint = file.run.has_value();
  model.layers = static_cast<int64_t>(config.layers.size());
  model.dim = config.block.dim;
  model.context = config.context;
  model.lineage = file.lineage;
  return model;
}

// All lines as JSON. A last line without its end is of a run that was killed while it wrote.
std::vector<json> parse_lines(const std::string& text, const std::string& path) {
  std::vector<json> lines;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line(text.data() + begin, end - begin);
    ++number;
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    std::string problem;
    json value = parse_json(line, &problem);
    if (value.is_discarded()) {
      if (end == text.size() && !lines.empty()) break;
      throw input_error("'{}' line {} {}", path, number, problem);
    }
    lines.push_back(std::move(value));
  }
  return lines;
}

// The rows of --format json, or every line.
std::vector<json> rows_of(const std::string& text, const std::string& path) {
  json whole = parse_json(text);
  if (whole.is_discarded()) return parse_lines(text, path);
  if (whole.is_object() && whole.contains("rows") && whole["rows"].is_array())
    return whole["rows"].get<std::vector<json>>();
  return {std::move(whole)};
}

// Text files of one folder may be large and none of ours: the first line tells, before the rest is read.
bool starts_as_ours(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string line(1 << 16, '\0');
  file.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<size_t>(file.gcount()));
  const size_t end = line.find('\n');
  if (end == line.npos) return true;  // whatever it is, it is looked at whole
  const json first = parse_json(std::string_view(line).substr(0, end));
  return first.is_discarded() || kind_of_row(first) != Kind::other || first.contains("rows");
}

class Reader {
 public:
  void read(const std::string& path, bool named) {
    check_stop();
    if (is_hdf5(path)) {
      files.models.push_back(read_model(path));
      return;
    }
    if (!starts_as_ours(path)) return refuse(path, named);
    if (fs::file_size(path) > most_bytes) throw input_error("'{}' is larger than 256 MiB: no log or result is", path);
    std::vector<json> rows = rows_of(read_text_file(path), path);
    if (rows.empty()) return refuse(path, named, "nothing is in it");
    const Kind kind = kind_of_row(rows.front());
    if (kind == Kind::other) return refuse(path, named);
    for (size_t i = 0; i < rows.size(); ++i)
      if (kind_of_row(rows[i]) != kind)
        throw input_error("'{}' mixes kinds: its item {} is not what the first is ({})", path, i + 1, words(kind));
    const std::string name = name_of_file(path);
    if (kind == Kind::log)
      files.logs.push_back({name, std::move(rows)});
    else
      (kind == Kind::scores ? files.scores : files.speeds).push_back({name, std::move(rows)});
  }

  RunFiles files;

 private:
  static const char* words(Kind kind) {
    return kind == Kind::log ? "a line of train's log" : kind == Kind::scores ? "a row of eval" : "a row of bench";
  }

  void refuse(const std::string& path, bool named,
              const char* why = "neither a log of train nor a result of eval or bench") {
    if (named) throw input_error("'{}' has no place in the report: {}", path, why);
    files.unused.emplace_back(name_of_file(path), why);
  }
};

}  // namespace

RunFiles read_run_files(const std::vector<std::string>& paths) {
  Reader reader;
  for (const std::string& path : paths) {
    std::error_code failed;
    if (!fs::exists(path, failed)) throw input_error("'{}' does not exist", path);
    if (!fs::is_directory(path)) {
      reader.read(path, true);
      continue;
    }
    std::vector<std::string> inside;
    for (const auto& entry : fs::directory_iterator(path, failed)) {
      const std::string name = entry.path().string();
      const bool wanted = has_ending(name, ".h5") || has_ending(name, ".json") || has_ending(name, ".jsonl");
      if (wanted && entry.is_regular_file()) inside.push_back(name);
    }
    if (failed) throw input_error("the folder '{}' cannot be read: {}", path, failed.message());
    std::sort(inside.begin(), inside.end());
    for (const std::string& name : inside) reader.read(name, false);
  }
  if (reader.files.empty())
    throw input_error("'{}' holds nothing to report: no log of train, no result of eval or bench as json, no model",
                      paths.front());
  return std::move(reader.files);
}

double number_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number() ? found->get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string text_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace hone
