// The attention functions of one instruction set, declared for the file that fills its table.
#pragma once

#include "kernels/isa/attention/table.h"

namespace hone::kernels::HONE_ISA {

size_t forward_scratch(const AttentionArgs& args, const ForwardItem& item);
void forward(const AttentionArgs& args, const ForwardItem& item);
size_t backward_scratch(const AttentionArgs& args);
void backward(const AttentionArgs& args, const BackwardItem& item);
void backward_finish(const AttentionArgs& args, int64_t sequence, int64_t head, const float* dq, int64_t parts,
                     int64_t part_stride, void* scratch);
size_t decode_scratch(const DecodeArgs& args);
void decode(const DecodeArgs& args, const DecodeItem& item);
size_t route_scratch(const RouteArgs& args);
void route(const RouteArgs& args, const RouteItem& item);
void summarize_head(const ConstHeadRows& k, int64_t sequence, int64_t head, int64_t first, int64_t rows,
                    int64_t head_dim, int64_t block, float* summaries);
void encode_rows(const CodeRows& to, const ConstHeadRows& from, int64_t count, float* room);
void decode_rows(const CodeRows& from, const HeadRows& to, int64_t count, float* room);
void rotate(float* row, int64_t n);

}  // namespace hone::kernels::HONE_ISA
