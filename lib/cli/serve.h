#pragma once

namespace hone::cli {

int serve(int argc, char** argv);

}  // namespace hone::cli
