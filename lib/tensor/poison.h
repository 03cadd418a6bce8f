// Telling AddressSanitizer which memory of an arena nobody may touch; nothing where that is not compiled in.
#pragma once

#include <cstddef>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif

namespace hone {

#ifdef ASAN_POISON_MEMORY_REGION
constexpr size_t red_zone = 64;  // behind a block, so that what is written behind its end is found
inline void poison(const void* data, size_t bytes) {
  ASAN_POISON_MEMORY_REGION(data, bytes);
}
inline void unpoison(const void* data, size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(data, bytes);
}
#else
constexpr size_t red_zone = 0;
inline void poison(const void*, size_t) {}
inline void unpoison(const void*, size_t) {}
#endif

}  // namespace hone
