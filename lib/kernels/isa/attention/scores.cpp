#include "kernels/isa/attention/scores.h"

#include <utility>

namespace hone::kernels::HONE_ISA {
namespace {

using Change = void (*)(const ScoreRule& rule, const ScoreTile& t, float* slopes);

struct Changes {
  Change of[score_kind_count];
};

template <size_t... I>
constexpr Changes changes_of(std::index_sequence<I...>) {
  return {{change_kind<static_cast<ScoreKind>(I + 1)>...}};
}

constexpr Changes changes = changes_of(std::make_index_sequence<score_kind_count>());

}  // namespace

void change_kinds(const ScoreRule& rule, const ScoreTile& t, float* slopes) {
  changes.of[static_cast<size_t>(rule.kind) - 1](rule, t, slopes);
}

}  // namespace hone::kernels::HONE_ISA
