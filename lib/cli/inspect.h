// The tool `inspect`.
#pragma once

namespace hone::cli {
int inspect(int argc, char** argv);
}
