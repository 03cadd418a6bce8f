// The tool `quantize`.
#pragma once

namespace hone::cli {
int quantize(int argc, char** argv);
}
