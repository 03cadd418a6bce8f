// The version of this build.
#pragma once

namespace hone {
const char* version();
const char* version_date();  // when it was made: "2026-11-29"
}  // namespace hone
