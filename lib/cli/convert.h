#pragma once

namespace hone::cli {

int convert(int argc, char** argv);

}  // namespace hone::cli
