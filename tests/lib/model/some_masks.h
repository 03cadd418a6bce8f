// Masks of no method, for tests of what is done with them.
#pragma once

#include <functional>
#include <memory>

#include "model/transformer.h"

namespace hone::test {

// Gives those matrices of linear layers a mask of two fifths that `chosen` names.
inline void mask_some(Transformer& model, const std::function<bool(const ParameterInfo&)>& chosen) {
  struct Pruner : Visitor {
    explicit Pruner(const std::function<bool(const ParameterInfo&)>& which) : chosen(which) {}
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      if (!is_linear(info.role) || !chosen(info)) return;
      const Bitmask mask = Bitmask::zeros(weight->rows(), weight->cols());
      for (int64_t r = 0; r < mask.rows(); ++r)
        for (int64_t col = 0; col < mask.cols(); ++col)
          if ((r * 31 + col * 17) % 5 > 1) mask.set(r, col);
      weight->set_mask(mask);
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
    const std::function<bool(const ParameterInfo&)>& chosen;
  } pruner(chosen);
  model.visit(pruner);
}

}  // namespace hone::test
