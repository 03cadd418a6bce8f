// The tool `generate`.
#pragma once

namespace hone::cli {
int generate(int argc, char** argv);
}
