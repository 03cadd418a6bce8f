// The attention table of one instruction set.
#include "kernels/isa/attention/functions.h"

namespace hone::kernels::HONE_ISA {

AttentionKernels attention_kernels() {
  return {forward_scratch, forward, backward_scratch, backward, backward_finish,
          decode_scratch,  decode,  route_scratch,    route,    summarize_head};
}

}  // namespace hone::kernels::HONE_ISA
