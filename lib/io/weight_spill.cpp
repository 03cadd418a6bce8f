#include "io/weight_spill.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>

#include "io/descriptor.h"
#include "weights/deferred_weight.h"

namespace hone {
namespace {

constexpr uint64_t place_unit = uint64_t{1} << 16;  // bytes; a multiple of every system's pages

// `bytes` of a file from `offset` on, which others may go on writing behind.
std::shared_ptr<Storage> map_part(int fd, uint64_t offset, uint64_t bytes) {
  void* start = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (start == MAP_FAILED) return nullptr;
  return Storage::external(start, bytes, std::shared_ptr<void>(start, [bytes](void* p) { munmap(p, bytes); }));
}

}  // namespace

WeightSpill::WeightSpill(const std::string& target) {
  const std::filesystem::path folder = std::filesystem::path(target).parent_path();
  fd_ = open(folder.empty() ? "." : folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

WeightSpill::~WeightSpill() {
  if (fd_ >= 0) close(fd_);
}

std::shared_ptr<Weight> WeightSpill::put(std::shared_ptr<Weight> weight) {
  if (fd_ < 0) return weight;
  Encoded encoded = weight->encode();
  encoded.attributes[nonzeros_attribute] = weight->nonzeros();
  encoded.attributes[pruned_attribute] = weight->pruned();
  for (auto& [name, tensor] : encoded.arrays) {
    if (tensor.bytes() == 0) continue;
    const Transfer transfer{tensor.raw(), tensor.bytes(), bytes_};
    if (write_all(fd_, {&transfer, 1}) != 0) return weight;  // no room: the weight stays where it is
    const auto storage = map_part(fd_, bytes_, tensor.bytes());
    if (!storage) return weight;
    tensor = Tensor::over(storage, 0, tensor.shape(), tensor.dtype());
    bytes_ += (tensor.bytes() + place_unit - 1) / place_unit * place_unit;
  }
  return std::make_shared<DeferredWeight>(std::move(encoded), "a weight of this model", DeferredWeight::Arrays::sound);
}

}  // namespace hone
