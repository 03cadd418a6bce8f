// The hidden states of a whole text: in one pass, and through a cache in pieces.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "model/session.h"
#include "model/transformer.h"
#include "support/models.h"

namespace hone::test {

inline Config attending(const std::string& kinds) {
  Config c = small_config();
  c.context = 300;
  set_attention(c, kinds);
  return c;
}

inline Tensor in_one_pass(Transformer& model, const std::vector<int32_t>& ids, int64_t batch, DType type) {
  const Call call = model.call(Batch::whole(batch, static_cast<int64_t>(ids.size()) / batch), type);
  return model.hidden(ids, call).value().to(DType::f32);
}

// The same through a cache, in pieces of the given lengths.
inline Tensor in_pieces(Transformer& model, const std::vector<int32_t>& ids, int64_t batch,
                        const std::vector<int64_t>& pieces, DType type) {
  const int64_t length = static_cast<int64_t>(ids.size()) / batch, dim = model.config().block.dim;
  Session session(model, {batch, length, type});
  const Tensor all = Tensor::empty({batch * length, dim});
  int64_t done = 0;
  for (int64_t piece : pieces) {
    std::vector<int32_t> part;
    for (int64_t s = 0; s < batch; ++s)
      part.insert(part.end(), ids.begin() + s * length + done, ids.begin() + s * length + done + piece);
    const Tensor hidden = session.hidden(part).to(DType::f32);
    for (int64_t s = 0; s < batch; ++s)
      std::copy_n(hidden.data<float>() + s * piece * dim, piece * dim, all.data<float>() + (s * length + done) * dim);
    done += piece;
  }
  REQUIRE(done == length);
  return all;
}

}  // namespace hone::test
