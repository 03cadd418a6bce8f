#include "kernels/read_ahead.h"

#include <doctest/doctest.h>

using namespace hone::kernels;

TEST_CASE("read ahead: what followed a loop the last time is expected behind it") {
  const uint8_t memory[64] = {};
  const auto loop = [&](int64_t at) {
    return std::vector<FirstBytes>{{memory + at, 10, nullptr, 0}, {memory + at + 1, 10, nullptr, 0}};
  };
  detail::Followers followers;
  CHECK(followers.next(0).data == nullptr);
  for (const int64_t at : {0, 10, 20, 0}) followers.came(loop(at));
  CHECK(followers.next(0).data == memory + 10);
  CHECK(followers.next(1).data == memory + 11);
  CHECK(followers.next(2).data == nullptr);  // the loop had two threads
  followers.came({});                        // nothing is read
  CHECK(followers.next(0).data == memory + 10);
  followers.came(loop(30));
  CHECK(followers.next(0).data == nullptr);  // nothing came behind this one yet
  followers.came(loop(0));
  CHECK(followers.next(0).data == memory + 30);
}

TEST_CASE("read ahead: it forgets, and goes on") {
  const std::vector<uint8_t> memory(2 * detail::Followers::most);
  detail::Followers followers;
  const auto come = [&](size_t at) {
    const FirstBytes first{memory.data() + at, 1, nullptr, 0};
    followers.came({&first, 1});
  };
  for (size_t at = 0; at < memory.size(); ++at) come(at);
  come(0);
  CHECK(followers.next(0).data == nullptr);
  come(1);
  come(0);
  CHECK(followers.next(0).data == memory.data() + 1);
}

TEST_CASE("read ahead: a thread fetches as much as there is, once") {
  const std::vector<uint8_t> memory(1 << 20);
  const auto fetches = [&](detail::Fetching& fetching) {
    int64_t count = 0;
    while (fetching.fetch(4)) ++count;
    return count;
  };
  detail::Fetching fetching;
  CHECK(fetches(fetching) == 0);
  fetching.go_to({memory.data(), 640, memory.data() + 640, 64});
  CHECK(fetches(fetching) == 3);
  fetching.go_to({memory.data(), 640, memory.data() + 640, 64});
  CHECK(fetches(fetching) == 0);
  fetching.go_to({memory.data() + 1, static_cast<int64_t>(memory.size()) - 1, nullptr, 0});
  CHECK(fetches(fetching) == detail::Fetching::most / detail::Fetching::line / 4);
  fetching.go_to({});
  CHECK(fetches(fetching) == 0);
}
