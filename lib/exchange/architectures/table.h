// The rows of the table of architectures; architecture.cpp lists them.
#pragma once

#include "exchange/architecture.h"

namespace hone {

Architecture llama_architecture();
Architecture mistral_architecture();
Architecture qwen2_architecture();
Architecture qwen3_architecture();
Architecture mixtral_architecture();
Architecture qwen3_moe_architecture();
Architecture gpt2_architecture();
Architecture neox_architecture();

}  // namespace hone
