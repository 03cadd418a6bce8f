#include "serve/order.h"

#include "base/rows.h"

namespace hone {
namespace {

// A token that is written costs a step, one of a prompt a small part of one: they are read some hundred at a time.
constexpr int64_t prompt_tokens_a_step = 64;

int64_t steps(const Wish& wish) {
  return wish.tokens + wish.prompt / prompt_tokens_a_step;
}

constexpr ServiceOrder rows[] = {
    {"fifo", "who came first", [](const Wish&) { return int64_t{0}; }},
    {"shortest", "who needs the fewest steps: most are served soonest, and long texts wait for all others", steps},
    {"longest", "who needs the most steps: of many texts that are all there, the last is done soonest",
     [](const Wish& wish) { return -steps(wish); }},
};

}  // namespace

std::span<const ServiceOrder> service_orders() {
  return rows;
}

const ServiceOrder& service_order(std::string_view name) {
  return row_called(rows, name, "order of service");
}

}  // namespace hone
