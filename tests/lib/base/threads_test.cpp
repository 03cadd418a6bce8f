#include "base/threads.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>

#include "base/cpu.h"
#include "base/error.h"

using namespace hone;

namespace {

// Sets an environment variable (or removes it, given null) until the end of the scope.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    if (value)
      setenv(name, value, 1);
    else
      unsetenv(name);
  }
  ~Variable() {
    if (old_)
      setenv(name_, old_->c_str(), 1);
    else
      unsetenv(name_);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> old_;
};

}  // namespace

TEST_CASE("threads: the flag wins, then HONE_THREADS, then OMP_NUM_THREADS, then the cores") {
  const Variable hone("HONE_THREADS", "3");
  const Variable omp("OMP_NUM_THREADS", "5");
  CHECK(choose_threads(7).count == 7);
  CHECK(choose_threads(7).source == std::string("asked for"));
  CHECK(choose_threads(0).count == 3);
  CHECK(choose_threads(0).source == std::string("HONE_THREADS"));
  {
    const Variable none("HONE_THREADS", nullptr);
    CHECK(choose_threads(0).count == 5);
    CHECK(choose_threads(0).source == std::string("OMP_NUM_THREADS"));
    const Variable levels("OMP_NUM_THREADS", "4,2");
    CHECK(choose_threads(0).count == 4);
  }
  {
    const Variable empty("HONE_THREADS", ""), none("OMP_NUM_THREADS", nullptr);
    const double quota = std::ceil(cpu_quota().value_or(1e9));
    CHECK(choose_threads(0).count == std::min<double>(physical_cores(), quota));
    const std::string reason = choose_threads(0).source;
    if (quota < physical_cores())
      CHECK(reason.starts_with("CPU quota of "));
    else if (allowed_cpus() < sysconf(_SC_NPROCESSORS_ONLN))
      CHECK(reason.starts_with("affinity mask: "));
    else
      CHECK(reason == "physical cores");
    CHECK(physical_cores() >= 1);
  }
}

TEST_CASE("threads: a variable that is no number of threads is refused by name and value") {
  for (const char* bad : {"two", "0", "-1", "2x", "3,1", "99999999999"}) {
    CAPTURE(bad);
    const Variable hone("HONE_THREADS", bad);
    try {
      choose_threads(0);
      FAIL("nothing was thrown");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::usage);
      const std::string what = error.what();
      CHECK(what.find(std::string("HONE_THREADS='") + bad + "'") != std::string::npos);
      CHECK((what.find("is too large: at most ") != std::string::npos) == (std::string(bad) == "99999999999"));
    }
    CHECK(choose_threads(2).count == 2);  // a flag makes the variable irrelevant
  }
}
