#include "train/teacher_cache.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "base/units.h"
#include "io/row_file.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

nlohmann::json to_json(const TeacherCacheKey& key) {
  return {{"text", key.text},
          {"teacher", key.teacher},
          {"context", key.context},
          {"temperature", key.temperature},
          {"top", key.top}};
}

int64_t id_bytes(int64_t vocabulary) {
  return vocabulary > 65536 ? 4 : 2;
}

// Of one row of logits, likeliest first; of equal ones the first.
class Likeliest {
 public:
  Likeliest(int64_t vocabulary, int64_t top, double temperature)
      : top_(top), inverse_(1 / temperature), order_(static_cast<size_t>(vocabulary)) {}

  // ids: `top` numbers of `width` bytes; probabilities [top + 1].
  void of(const float* logits, std::byte* ids, int64_t width, bf16* probabilities) {
    std::iota(order_.begin(), order_.end(), 0);
    std::partial_sort(order_.begin(), order_.begin() + top_, order_.end(),
                      [&](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
    const auto of = [&](int32_t id) {
      return std::exp((static_cast<double>(logits[id]) - static_cast<double>(logits[order_[0]])) * inverse_);
    };
    double kept = 0, rest = 0;
    for (size_t i = 0; i < order_.size(); ++i) (static_cast<int64_t>(i) < top_ ? kept : rest) += of(order_[i]);
    for (int64_t k = 0; k < top_; ++k) {
      const int32_t id = order_[static_cast<size_t>(k)];
      if (width == 2)
        reinterpret_cast<uint16_t*>(ids)[k] = static_cast<uint16_t>(id);
      else
        reinterpret_cast<uint32_t*>(ids)[k] = static_cast<uint32_t>(id);
      probabilities[k] = to_bf16(static_cast<float>(of(id) / (kept + rest)));
    }
    probabilities[top_] = to_bf16(static_cast<float>(rest / (kept + rest)));
  }

 private:
  int64_t top_;
  double inverse_;
  std::vector<int32_t> order_;
};

class Writer {
 public:
  Writer(const std::string& path, const TeacherCacheKey& key, const Transformer& teacher, const Corpus& text,
         DType type)
      : key_(key),
        teacher_(teacher),
        text_(text),
        type_(type),
        vocabulary_(teacher.config().vocabulary),
        width_(id_bytes(vocabulary_)),
        count_(text.size() - 1),
        file_(path, false, to_json(key), count_, {key.top * width_, (key.top + 1) * 2}) {}

  void run() {
    const int64_t context = std::min(key_.context, count_), half = std::max<int64_t>(1, context / 2);
    Progress progress;
    std::vector<int64_t> begins, from;  // of windows, and the first position that is taken of each
    for (int64_t done = 0; done < count_;) {
      const int64_t begin = done == 0 ? 0 : std::min(done - (context - half), count_ - context);
      begins.push_back(begin);
      from.push_back(done);
      done = begin + context;
      if (static_cast<int64_t>(begins.size()) * context >= rows_at_once || done >= count_) {
        check_stop();
        batch(begins, from, context);
        begins.clear();
        from.clear();
        progress.show(fmt::format("teacher: {} of {} tokens", format_count(static_cast<double>(done)),
                                  format_count(static_cast<double>(count_))));
      }
    }
    file_.commit();
  }

 private:
  static constexpr int64_t rows_at_once = 4096;

  void batch(const std::vector<int64_t>& begins, const std::vector<int64_t>& from, int64_t context) {
    const auto windows = static_cast<int64_t>(begins.size());
    std::vector<int32_t> ids(static_cast<size_t>(windows * context));
    for (int64_t w = 0; w < windows; ++w) text_.copy(begins[static_cast<size_t>(w)], context, ids.data() + w * context);
    const NoTape pause;
    const Tensor hidden = teacher_.hidden(ids, teacher_.call(Batch::whole(windows, context), type_)).value();
    for (int64_t w = 0; w < windows; ++w) {
      const int64_t begin = begins[static_cast<size_t>(w)], first = from[static_cast<size_t>(w)];
      const int64_t count = begin + context - first;
      keep(teacher_.logits(hidden.rows(w * context + first - begin, count)), first, count);
    }
  }

  void keep(const Tensor& logits, int64_t first, int64_t count) {
    const Tensor ids = Tensor::empty({count, key_.top * width_}, DType::u8);
    const Tensor probabilities = Tensor::empty({count, key_.top + 1}, DType::bf16);
    kernels::parallel_for(count, kernels::row_grain(16 * vocabulary_), [&](int64_t begin, int64_t end) {
      Likeliest likeliest(vocabulary_, key_.top, key_.temperature);
      for (int64_t r = begin; r < end; ++r)
        likeliest.of(logits.data<float>() + r * vocabulary_, ids.raw() + r * key_.top * width_, width_,
                     probabilities.data<bf16>() + r * (key_.top + 1));
    });
    file_.write(0, first, count, ids.raw());
    file_.write(1, first, count, probabilities.raw());
  }

  TeacherCacheKey key_;
  const Transformer& teacher_;
  const Corpus& text_;
  DType type_;
  int64_t vocabulary_, width_, count_;
  RowFileWriter file_;
};

class CachedTeacher : public Teacher {
 public:
  CachedTeacher(std::string path, RowFile file, int64_t top, int64_t vocabulary)
      : path_(std::move(path)), file_(std::move(file)), top_(top), vocabulary_(vocabulary) {}

  TeacherAnswer answer(const TeacherBatch& batch, bool) const override {
    const auto windows = static_cast<int64_t>(batch.starts.size()), rows = static_cast<int64_t>(batch.inputs.size());
    const int64_t context = rows / windows;
    const Tensor ids = Tensor::empty({rows, top_}, DType::i32), probabilities = Tensor::empty({rows, top_ + 1});
    bool sound = true;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = batch.starts[static_cast<size_t>(r / context)] + r % context;
      sound = at < file_.rows && sound &&
              read(at, ids.data<int32_t>() + r * top_, probabilities.data<float>() + r * (top_ + 1));
    }
    if (!sound) throw input_error("'{}' holds predictions that cannot be; remove it to have it written again", path_);
    return {ops::kept_predictions(ids, probabilities), {}};
  }

 private:
  // They sum to 1 again, which rounding has changed a little.
  bool read(int64_t at, int32_t* ids, float* probabilities) const {
    const std::byte* codes = file_.arrays[0].raw() + at * file_.arrays[0].dim(1);
    const auto* kept = reinterpret_cast<const bf16*>(file_.arrays[1].raw() + at * file_.arrays[1].dim(1));
    bool sound = true;
    for (int64_t k = 0; k < top_; ++k) {
      const int64_t id = id_bytes(vocabulary_) == 2 ? reinterpret_cast<const uint16_t*>(codes)[k]
                                                    : static_cast<int64_t>(reinterpret_cast<const uint32_t*>(codes)[k]);
      sound = sound && id < vocabulary_;
      ids[k] = static_cast<int32_t>(id);
    }
    float sum = 0;
    for (int64_t k = 0; k <= top_; ++k) {
      probabilities[k] = to_float(kept[k]);
      sound = sound && probabilities[k] >= 0 && probabilities[k] <= 1;
      sum += probabilities[k];
    }
    for (int64_t k = 0; k <= top_; ++k) probabilities[k] /= sum;
    return sound && sum > 0.5f;
  }

  std::string path_;
  RowFile file_;
  int64_t top_, vocabulary_;
};

}  // namespace

void write_teacher_cache(const std::string& path, const TeacherCacheKey& key, const Transformer& teacher,
                         const Corpus& text, DType type) {
  Writer(path, key, teacher, text, type).run();
}

std::shared_ptr<const Teacher> cached_teacher(const std::string& path, const TeacherCacheKey& key, int64_t vocabulary) {
  RowFile file = read_row_file(path);
  const nlohmann::json wanted = to_json(key);
  for (const auto& [name, value] : wanted.items())
    if (!file.about.is_object() || file.about.value(name, nlohmann::json()) != value)
      throw usage_error("'{}' was made for another {} ({} there, {} here); remove it, or name another file", path, name,
                        file.about.is_object() ? file.about.value(name, nlohmann::json()).dump() : "nothing",
                        value.dump());
  if (file.arrays.size() != 2 || file.arrays[0].dim(1) != key.top * id_bytes(vocabulary) ||
      file.arrays[1].dim(1) != (key.top + 1) * 2)
    throw input_error("'{}' is damaged: its arrays have other sizes than it says; remove it", path);
  return std::make_shared<CachedTeacher>(path, std::move(file), key.top, vocabulary);
}

double teacher_cache_bytes(int64_t tokens, int64_t top, int64_t vocabulary) {
  return static_cast<double>(tokens) * static_cast<double>(top * id_bytes(vocabulary) + (top + 1) * 2);
}

}  // namespace hone
