// A run as one HTML page that stands alone: no network, no script, no file beside it.
#pragma once

#include <string>

#include "overview/inputs.h"

namespace hone {

// The same files give the same bytes.
std::string overview_page(const RunFiles& files, const std::string& title);

}  // namespace hone
