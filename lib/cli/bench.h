// The bench tool: how fast models are, and how close to what the machine can do.
#pragma once

namespace hone::cli {

int bench(int argc, char** argv);  // the exit status

}  // namespace hone::cli
