// The version of this build.
#pragma once

namespace hone {
const char* version();
}
