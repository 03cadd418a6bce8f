// The attention table of one instruction set.
#include "kernels/isa/attention/functions.h"
#include "kernels/isa/set_functions.h"

namespace hone::kernels::HONE_ISA {

void set_functions(AttentionKernels& table) {
  table = {forward_scratch, forward, backward_scratch, backward,    backward_finish, decode_scratch, decode,
           route_scratch,   route,   summarize_head,   encode_rows, decode_rows,     rotate};
}

}  // namespace hone::kernels::HONE_ISA
