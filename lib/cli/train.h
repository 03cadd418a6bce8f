// The tool `train`.
#pragma once

namespace hone::cli {
int train(int argc, char** argv);
}
