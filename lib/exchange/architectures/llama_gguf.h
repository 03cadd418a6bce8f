// What rows of llama.cpp say of GGUF files.
#pragma once

#include "exchange/gguf_form.h"

namespace hone {

extern const GgufForm llama_gguf, qwen2_gguf, qwen3_gguf, qwen2_moe_gguf, qwen3_moe_gguf, olmoe_gguf;

}  // namespace hone
