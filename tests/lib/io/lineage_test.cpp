#include "io/lineage.h"

#include <doctest/doctest.h>

#include "base/version.h"

TEST_CASE("a lineage entry has its fields, the same ones at every call") {
  const auto entry = hone::lineage_entry("prune", {"a.h5", "--sparsity", "0.6"}, "abc", 3, {{"sparsity", 0.6}});
  CHECK(entry == nlohmann::json{{"tool", "prune"},
                                {"version", hone::version()},
                                {"arguments", {"a.h5", "--sparsity", "0.6"}},
                                {"parent_sha256", "abc"},
                                {"seed", 3},
                                {"results", {{"sparsity", 0.6}}}});
  CHECK(entry == hone::lineage_entry("prune", {"a.h5", "--sparsity", "0.6"}, "abc", 3, {{"sparsity", 0.6}}));
}

TEST_CASE("a model from scratch has no parent, and arguments of any bytes can be written") {
  const auto entry = hone::lineage_entry("train", {"caf\xe9.txt"}, "", 18446744073709551615u, nullptr);
  CHECK(entry["parent_sha256"].is_null());
  CHECK(entry["seed"] == 18446744073709551615u);
  CHECK(entry["arguments"][0] == "caf\xef\xbf\xbd.txt");
  CHECK_NOTHROW(entry.dump());
}
