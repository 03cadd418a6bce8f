// The tool `eval`.
#pragma once

namespace hone::cli {
int eval(int argc, char** argv);
}
