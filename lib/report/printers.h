// The printers behind render(): one function for each format of report.h.
#pragma once

#include <string>

#include "report/report.h"

namespace hone {

std::string print_table(const Report& report);
std::string print_markdown(const Report& report);
std::string print_json(const Report& report);
std::string print_jsonl(const Report& report);
std::string print_csv(const Report& report);

// A cell as a person reads it; "" where it is missing.
std::string text_for_people(const Cell& cell, Display display, int digits);

}  // namespace hone
