// The machine's ceilings (kernels/ceilings.h), measured once and kept in a file.
#pragma once

#include <string>

#include "kernels/ceilings.h"

namespace hone {

// Of this processor, isa() and `threads`: from the cache, or measured (about two seconds) and cached. `refresh`
// measures anew. The cache is one small JSON file for each (processor, instruction set, threads, version) in
// $HONE_CACHE_DIR, else $XDG_CACHE_HOME/hone, else ~/.cache/hone. A file that cannot be read or is not what it should
// be is measured again; a directory that cannot be written is noted in the log and nothing else. What was measured
// while others had the cores is used with a warning and not kept.
kernels::Ceilings machine_ceilings(int threads, bool refresh = false, kernels::ProductRate product_rate = nullptr);

std::string ceilings_path(int threads);  // the file; "" where no directory is known
void save_ceilings(const std::string& path, int threads, const kernels::Ceilings& ceilings);  // Error(input)
// False if there is no valid file for this machine and `threads` at `path`.
bool load_ceilings(const std::string& path, int threads, kernels::Ceilings& ceilings);

}  // namespace hone
