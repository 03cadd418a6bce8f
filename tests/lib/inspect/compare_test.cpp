#include "inspect/compare.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "dataset/tokenizer.h"
#include "support/models.h"
#include "support/scratch.h"

using namespace hone;
using namespace hone::test;

namespace {

// Of "name difference" for each row.
std::vector<std::string> rows_of(const Report& report) {
  std::vector<std::string> rows;
  for (size_t i = 0; i < report.size(); ++i) {
    const auto text = [&](const char* name) {
      for (size_t c = 0; c < report.columns().size(); ++c)
        if (report.columns()[c].name == name) return std::get<std::string>(report.cell(i, c));
      return std::string();
    };
    rows.push_back(text("name") + " " + text("difference"));
  }
  return rows;
}

}  // namespace

TEST_CASE("two files differ in what was changed, and not in what was not") {
  const Scratch scratch;
  Config config = small_config();
  config.vocabulary = config.padded_vocabulary = 256;
  Model model;
  model.transformer = std::make_unique<Transformer>(config);
  initialize(*model.transformer, 1);
  model.tokenizer = byte_tokenizer()->to_json();
  save_model(scratch / "a.h5", model, false);
  float* first = model.transformer->embedding()->parameter()->value.data<float>();
  first[0] += 1;
  first[1] = 0;
  save_model(scratch / "b.h5", model, false);

  const InspectedModel a = inspect_model(scratch / "a.h5"), b = inspect_model(scratch / "b.h5");
  CHECK(compare_models(a, a).size() == 0);
  CHECK(rows_of(compare_models(a, b)) == std::vector<std::string>{"embedding.weight values"});
  CHECK(b.parameters.front().elements - b.parameters.front().nonzeros ==
        a.parameters.front().elements - a.parameters.front().nonzeros + 1);
  CHECK(to_table(a, false).find("embedding.weight") != std::string::npos);
  CHECK(to_json(b).at("nonzero_parameters") == to_json(a).at("nonzero_parameters").get<int64_t>() - 1);
}

TEST_CASE("a stage is shown as it was typed") {
  CHECK(stage_text({{"tool", "train"}, {"version", "1"}, {"arguments", {"--data", "a b"}}}) == "train 1: --data 'a b'");
  CHECK(stage_text({{"tool", "train"}, {"version", "1"}, {"unfinished", true}}) == "train 1: (unfinished)");
}
