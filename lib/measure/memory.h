// Memory that this process takes, as the system counts it.
#pragma once

#include <cstdint>

namespace hone {

int64_t rss_bytes();  // resident now: private pages and touched pages of mapped files; 0 if the system does not say
int64_t peak_rss_bytes();  // the most since the process began or reset_peak_rss()

// Makes the present memory the peak. False where the system does not permit it; the peak is then that of the whole
// process.
bool reset_peak_rss();

}  // namespace hone
