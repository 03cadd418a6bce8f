#include "base/version.h"

namespace hone {
const char* version() {
  return HONE_VERSION;
}
const char* version_date() {
  return HONE_VERSION_DATE;
}
}  // namespace hone
