// What the processor can do, and which instruction set the kernels use.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

// Each level includes the ones before it in its family, Arm's or that of x86. `neon` is what every 64-bit processor of
// Arm has; neon_dot adds dot products of 8 bits, neon_bf16 those of bf16 and of signed with unsigned bytes. `amx` uses
// the avx512_bf16 kernels, lets oneDNN use the tile unit and uses it itself (kernels/tiles/). Arm's stand first: `isa()
// >= Isa::avx2` is false there.
enum class Isa { portable, neon, neon_dot, neon_bf16, avx2, avx512, avx512_bf16, amx };

std::string_view name_of(Isa isa);

// Levels this machine has, lowest first; always contains `portable`. Where the processor has tiles, the first call asks
// the system to let this process use them; where it refuses, there is no `amx`.
std::vector<Isa> isa_levels();

// The level in use: the machine's highest, or the one that HONE_ISA names. Throws Error(usage) when HONE_ISA names an
// unknown level or one the machine lacks. Decided on the first call.
Isa isa();

// The choice itself: the last of `levels`, or the one that `forced` (the value of HONE_ISA; may be null or empty)
// names. Throws as isa() does.
Isa choose_isa(const char* forced, const std::vector<Isa>& levels);

// For tests: use `level` from now on (kernels::kernel_set() is then another). `level` must be one of isa_levels().
void set_isa(Isa level);

// Whether a bf16 dot product takes as long as four of 8 bits, as on Intel's processors (where one that has tiles does
// bf16 in those), and not as long as one.
bool slow_bf16_dots();

std::string cpu_model();               // e.g. "AMD EPYC"
std::vector<std::string> cpu_flags();  // the features that matter here: avx2, avx512_vnni, amx_bf16, …
int physical_cores();                  // that this process may run on
int allowed_cpus();                    // logical processors that it may run on: its affinity mask

// How many processors' time the control groups of this process grant it, the least of any group around it; nothing
// where none is limited. A container's limit (docker --cpus) is there, in version 2 or 1: `groups` lists them, below
// `mount`.
std::optional<double> cpu_quota(const std::string& groups = "/proc/self/cgroup",
                                const std::string& mount = "/sys/fs/cgroup");

}  // namespace hone
