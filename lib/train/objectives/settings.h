// What of the objectives is wanted.
#pragma once

namespace hone {

struct ObjectiveSettings {};

}  // namespace hone
