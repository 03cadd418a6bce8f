// The command `hone`, in front of the tools: `hone eval m.h5` is `hone-eval m.h5`.
#pragma once

namespace hone::cli {

constexpr char front_summary[] = "Takes a transformer from dense to sparse: one command in front of all tools.";

int front(int argc, char** argv);

}  // namespace hone::cli
