// The tool `prune`.
#pragma once

namespace hone::cli {
int prune(int argc, char** argv);
}
