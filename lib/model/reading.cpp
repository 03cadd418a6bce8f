#include "model/reading.h"

#include "kernels/awake.h"
#include "kernels/packed/packed.h"

namespace hone {

Tensor hidden_states(const Transformer& model, const Input& input, std::vector<Span> spans,
                     const ReadSettings& settings, State* state) {
  const NoTape pause;
  const kernels::RowsScope scope(rows_as(settings.products));
  Call call = model.call(input, std::move(spans), settings.type);
  call.trace = settings.trace;
  const kernels::Awake awake(call.batch.rows());
  const int64_t layers = settings.layers ? settings.layers : model.layers();
  const Stream stream = model.run(model.embed(input, call), 0, layers, call, state);
  return model.read(stream, layers, call).value();
}

}  // namespace hone
