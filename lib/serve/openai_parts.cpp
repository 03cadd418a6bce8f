// Parts of a prompt in a request: as OpenAI's messages have them, {"type": "image_url", "image_url": {"url":
// "data:…"}}, and as lines of examples have them, {"image": "data:…"}. A server never opens what a client names: files
// come in the request, in base64.
#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "base/spelling.h"
#include "dataset/base64.h"
#include "media/sound.h"
#include "serve/openai.h"

namespace hone::openai {
namespace {

using nlohmann::json;

constexpr size_t most_parts = 1024;

// What a part may be.
struct PartForm {
  const char* name;      // of its member
  const Medium* medium;  // null: the member is a text
  const char* inside;    // of the member, which is an object then, what holds the file; null: the member itself does
  bool url;              // a "data:" URL; else base64 alone
  const char* beside;    // another member of that object, which changes nothing; null: none
};

std::vector<PartForm> part_forms() {
  std::vector<PartForm> forms = {{"text", nullptr, nullptr, false, nullptr},
                                 {"image_url", &media::image_medium, "url", true, "detail"},
                                 {"input_audio", &media::sound_medium, "data", false, "format"}};
  for (const Medium* medium : all_media()) forms.push_back({medium->name, medium, nullptr, true, nullptr});
  return forms;
}

std::string names_of(const std::vector<PartForm>& forms) {
  std::vector<std::string> names;
  for (const PartForm& form : forms) names.push_back(fmt::format("'{}'", form.name));
  return either_of(names);
}

// One part. `at` names it: "parts[1]".
class PartOf {
 public:
  PartOf(const json& part, std::string at) : part_(part), at_(std::move(at)) {}

  ExamplePart read() const {
    const std::vector<PartForm> forms = part_forms();
    if (!part_.is_object()) throw wrong("'{}' is no object such as {{\"text\": \"…\"}}", at_);
    const json* content = nullptr;
    const PartForm* form = nullptr;
    for (const auto& [name, value] : part_.items()) {
      if (name == "type") continue;
      const auto found = std::ranges::find_if(forms, [&](const PartForm& one) { return name == one.name; });
      if (found == forms.end() || form) throw wrong("'{}' must have one of {}, and nothing else", at_, names_of(forms));
      form = &*found;
      content = &value;
    }
    if (!form) throw wrong("'{}' must have one of {}", at_, names_of(forms));
    if (part_.contains("type") && part_["type"] != form->name)
      throw wrong("'{}' has the type {}, and a member '{}'", at_, part_["type"].dump(-1, ' ', true).substr(0, 40),
                  form->name);
    if (!form->medium) return {nullptr, text_of(*content, fmt::format("{}.{}", at_, form->name))};
    ExamplePart part{form->medium, at_};
    part.bytes = std::make_shared<const std::string>(file_of(*content, *form));
    return part;
  }

 private:
  template <class... Args>
  Refusal wrong(fmt::format_string<Args...> format, Args&&... args) const {
    return {400, fmt::format(format, std::forward<Args>(args)...), at_, ""};
  }

  const std::string& text_of(const json& value, const std::string& name) const {
    if (!value.is_string()) throw wrong("'{}' is a text", name);
    return value.get_ref<const std::string&>();
  }

  std::string file_of(const json& content, const PartForm& form) const {
    std::string name = fmt::format("{}.{}", at_, form.name);
    const json* value = &content;
    if (form.inside && content.is_object()) {
      for (const auto& [member, unused] : content.items())
        if (member != form.inside && (!form.beside || member != form.beside))
          throw wrong("there is no '{}.{}'", name, member);
      if (!content.contains(form.inside)) throw wrong("'{}' has no '{}'", name, form.inside);
      value = &content[form.inside];
      name += std::string(".") + form.inside;
    } else if (form.inside && !form.url) {
      throw wrong("'{}' is an object with '{}'", name, form.inside);
    }
    std::string_view text = text_of(*value, name);
    if (form.url) {
      const size_t comma = text.find(',');
      const std::string head = lower_case(text.substr(0, comma));
      if (!head.starts_with("data:") || comma == text.npos || !head.ends_with(";base64"))
        throw wrong("'{}' is no URL of the form data:TYPE;base64,…: this server opens no files and fetches nothing",
                    name);
      text.remove_prefix(comma + 1);
    }
    // In lines, as many programs write base64.
    std::string in_one_line;
    if (text.find_first_of("\r\n") != text.npos) {
      std::ranges::copy_if(text, std::back_inserter(in_one_line), [](char c) { return c != '\r' && c != '\n'; });
      text = in_one_line;
    }
    std::optional<std::string> bytes = from_base64(text);
    if (!bytes) throw wrong("'{}' is no base64", name);
    return std::move(*bytes);
  }

  const json& part_;
  const std::string at_;
};

}  // namespace

std::vector<ExamplePart> read_content(const json& parts) {
  if (!parts.is_array() || parts.empty() || parts.size() > most_parts)
    throw Refusal{400, fmt::format("'parts' is a list of up to {}", most_parts), "parts", ""};
  std::vector<ExamplePart> all;
  for (size_t i = 0; i < parts.size(); ++i) all.push_back(PartOf(parts[i], fmt::format("parts[{}]", i)).read());
  return all;
}

}  // namespace hone::openai
