// How the pool behind owned storage cuts memory, for who foretells what a run takes.
#pragma once

namespace hone {

// Bytes that the pool takes for an array of so many: whole huge pages (2 MiB) from one on, whole lines of 64 below. In
// doubles, which hold any size that a user may type.
double pool_block_bytes(double bytes);

}  // namespace hone
