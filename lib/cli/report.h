// The tool `report`.
#pragma once

namespace hone::cli {
int report(int argc, char** argv);
}
