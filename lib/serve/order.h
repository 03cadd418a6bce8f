// Who is served first: orders of an engine. Each is a row of the table in order.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace hone {

// What an order may look at when a text comes.
struct Wish {
  int64_t prompt = 0;  // tokens to be read
  int64_t tokens = 0;  // at most to be written
};

struct ServiceOrder {
  std::string_view name;
  std::string_view what;  // for people, after the name
  // Texts of a lower rank come before others, of equal ones who came first. It stays what it is: a text that had to give
  // its place back has it again.
  int64_t (*rank)(const Wish& wish);
};

std::span<const ServiceOrder> service_orders();  // the first is the usual one
// Throws Error(usage) for a name that no order has.
const ServiceOrder& service_order(std::string_view name);

}  // namespace hone
