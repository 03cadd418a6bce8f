// Sparsity patterns: which weights may be pruned together, and the mask that follows from scores.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "tensor/bitmask.h"

namespace hone {

// Which weights of a matrix are compared with each other when the lowest are chosen.
enum class ComparisonGroup { layer, row };  // the whole matrix | each output row by itself

// A matrix that a pattern does not divide.
class PatternMisfit : public Error {
 public:
  using Error::Error;
};

class Pattern {
 public:
  virtual ~Pattern() = default;
  virtual std::string name() const = 0;  // as typed: "unstructured", "2:4", "block:16x16"
  // The sparsity that the pattern itself decides; none where the user chooses.
  virtual std::optional<double> fixed_sparsity() const { return std::nullopt; }
  // Throws, naming `where`, PatternMisfit (usage) for a matrix that the pattern does not divide, and Error(usage) for
  // one of which `sparsity` would leave no block.
  virtual void check_shape(int64_t rows, int64_t cols, double sparsity, const std::string& where) const;
  // Columns that are chosen together: a mask of so many neighbours says nothing of others.
  virtual int64_t column_unit() const { return 1; }
  // The mask of f32 scores whose shape has been checked; keys as selection_keys() makes them.
  virtual Bitmask select(const Tensor& scores, const Tensor& keys, double sparsity,
                         ComparisonGroup comparison) const = 0;
};

// unstructured   any weight
// N:M            N kept of every M neighbours along a row, 1 <= N <= M <= 64 (2:4 keeps 2 of 4); sparsity 1 - N/M
// block:RxC      blocks of R rows and C columns kept or pruned whole, by the sum of their scores; 1 <= R, C <= 4096
//
// Throws Error(usage) that lists these.
std::shared_ptr<const Pattern> parse_pattern(std::string_view text);
std::string pattern_syntax();  // "unstructured, N:M (…), block:RxC (…)", for help and errors

// How many of `elements` are pruned for a sparsity in [0, 1): the fewest whose part is not below it, so that a sparsity
// asked for is a floor of the one found.
int64_t pruned_of(int64_t elements, double sparsity);

// Whether a pattern fixes a sparsity that differs from `asked` by more than 0.005.
bool contradicts(const Pattern& pattern, double asked);

// The sparsity to use: what the pattern fixes, or what the user asked for. Throws Error(usage) when none is given and
// the pattern needs one, when it lies outside [0, 1), and when the pattern contradicts it.
double resolve_sparsity(const Pattern& pattern, std::optional<double> asked);

// The mask that keeps the highest of `scores`, f32 [rows, cols].
//
// Exactly pruned_of(rows * cols, sparsity) weights are pruned (for blocks: that many of the blocks). Compared by row,
// each row (for blocks: each band of R rows) prunes its share of that number; shares differ by 1 at most. N:M compares
// within its groups alone. Of equal scores the ones with the lower index are kept. What `existing` (which may be empty)
// has pruned counts as lowest and stays pruned, even where that is more than `sparsity`. The same at any number of
// threads.
//
// Throws as check_shape() does, naming `where`; Error(input) for a score that is not finite.
Bitmask select_mask(const Tensor& scores, const Pattern& pattern, double sparsity, ComparisonGroup comparison,
                    const std::string& where, const Bitmask& existing = {});

}  // namespace hone
