// Ops of matrices in parts, by ranks that are threads: as one that has the whole.
#include "ops/ranks.h"

#include <doctest/doctest.h>

#include "comm/thread_ranks.h"
#include "ops/cross_entropy.h"
#include "ops/divergence.h"
#include "ops/head_norm.h"
#include "ops/linear.h"
#include "support/check.h"
#include "weights/dense_weight.h"
#include "weights/part.h"

using namespace hone;
using namespace hone::test;

TEST_CASE("sums over ranks are in their order, the same on all") {
  for (const int size : {1, 2, 3, 4})
    for (const Shape& shape : {Shape{3, 5}, Shape{131, 257}, Shape{1, 40000}})
      for (const DType type : {DType::f32, DType::bf16}) {
        CAPTURE(size);
        std::vector<Tensor> parts, sums(static_cast<size_t>(size));
        for (int rank = 0; rank < size; ++rank)
          parts.push_back(random_tensor(shape, static_cast<uint64_t>(rank)).to(type));
        const Tensor expected = parts[0].clone();
        for (int rank = 1; rank < size; ++rank)
          for (int64_t i = 0; i < expected.size(); ++i) {
            if (type == DType::f32)
              expected.data<float>()[i] += parts[static_cast<size_t>(rank)].data<float>()[i];
            else
              expected.data<bf16>()[i] = to_bf16(to_float(expected.data<bf16>()[i]) +
                                                 to_float(parts[static_cast<size_t>(rank)].data<bf16>()[i]));
          }
        run_thread_ranks(size, [&](const std::shared_ptr<Communicator>& ranks) {
          const auto me = static_cast<size_t>(ranks->rank());
          sums[me] = parts[me].clone();
          ops::sum_over(*ranks, sums[me]);
        });
        for (const Tensor& sum : sums) CHECK(relative_error(sum, expected) == 0);
      }
}

TEST_CASE("a vocabulary in parts gives the losses and gradients of the whole") {
  constexpr int64_t rows = 70, dim = 24, padded = 96;
  const Tensor values = random_tensor({padded, dim}, 1, 0.5f), hidden = random_tensor({rows, dim}, 2);
  std::vector<int32_t> targets(rows);
  std::vector<float> weights(rows);
  for (size_t r = 0; r < rows; ++r) {
    targets[r] = r % 9 == 0 ? -1 : static_cast<int32_t>(r * 5 % 50);
    weights[r] = 0.5f + static_cast<float>(r % 3);
  }
  struct Case {
    int64_t vocabulary;
    float softcap, z;
    bool weighted;
  };
  // With 50 tokens the last of three ranks has none.
  for (const Case& c : {Case{96, 0, 0, false}, Case{50, 0, 0.01f, false}, Case{50, 2, 0, true}})
    for (const int size : {2, 3}) {
      CAPTURE(size);
      CAPTURE(c.vocabulary);
      const auto run = [&](ops::Head head, Tensor& dx, Tensor& dw, ops::TokenLosses& losses) {
        head.softcap = c.softcap;
        Tape tape;
        const Var x(hidden, true);
        losses = ops::cross_entropy_head(
            x, head, targets, {1, c.z, c.weighted ? std::span<const float>(weights) : std::span<const float>()});
        tape.backward(std::span(&losses.term, 1));
        dx = x.take_grad();
        dw = head.weight->parameter()->grad;
      };
      Tensor dx, dw;
      ops::TokenLosses whole;
      run({std::make_shared<DenseWeight>(values.clone()), c.vocabulary}, dx, dw, whole);
      run_thread_ranks(size, [&](const std::shared_ptr<Communicator>& ranks) {
        const RankPart part = Share{ranks->rank(), size}.rows({padded});
        ops::Head head{std::make_shared<DenseWeight>(take_part(values, part)), 0, 0, ranks};
        head.first = ranks->rank() * (padded / size);
        head.vocabulary = std::clamp<int64_t>(c.vocabulary - head.first, 0, padded / size);
        Tensor own_dx, own_dw;
        ops::TokenLosses own;
        run(head, own_dx, own_dw, own);
        CHECK(own.term.value.value().data<float>()[0] ==
              doctest::Approx(static_cast<double>(whole.term.value.value().data<float>()[0])).epsilon(1e-6));
        if (c.z > 0)
          CHECK(own.z_term.value.value().data<float>()[0] ==
                doctest::Approx(static_cast<double>(whole.z_term.value.value().data<float>()[0])).epsilon(1e-6));
        CHECK(own.correct == whole.correct);
        for (size_t r = 0; r < rows; ++r)
          CHECK(std::abs(own.losses[r] - whole.losses[r]) <= 1e-6f * std::max(1.0f, whole.losses[r]));
        CHECK(relative_error(own_dx, dx) < 1e-5);
        CHECK(relative_error(own_dw, take_part(dw, part)) < 1e-5);
      });
    }
}

TEST_CASE("a vocabulary in parts gives the divergence of the whole, from a teacher that is in parts or whole") {
  constexpr int64_t rows = 70, dim = 24, padded = 96;
  const Tensor values = random_tensor({padded, dim}, 1, 0.5f), hidden = random_tensor({rows, dim}, 2);
  const Tensor teacher_values = random_tensor({padded, 16}, 3, 0.5f), teacher_hidden = random_tensor({rows, 16}, 4);
  std::vector<int32_t> targets(rows, 1);
  for (size_t r = 0; r < rows; r += 9) targets[r] = -1;
  // With 50 tokens the last of three ranks has none.
  for (const int64_t vocabulary : {int64_t{96}, int64_t{50}})
    for (const DType type : {DType::f32, DType::bf16}) {
      const auto run = [&](const ops::Head& head, const ops::Head& teacher, Tensor& dx, Tensor& dw) {
        Tape tape;
        const Var x(hidden.to(type), true);
        const auto predictions = ops::predictions_of(teacher_hidden.to(type), teacher);
        const LossTerm term = ops::divergence_head("teacher", x, head, *predictions, 1.7f, targets, 1);
        tape.backward(std::span(&term, 1));
        dx = x.take_grad().to(DType::f32);
        dw = head.weight->parameter()->grad;
        return static_cast<double>(term.value.value().data<float>()[0]);
      };
      const ops::Head teacher{std::make_shared<DenseWeight>(teacher_values.clone()), vocabulary, 3};
      Tensor dx, dw;
      const double loss = run({std::make_shared<DenseWeight>(values.clone()), vocabulary}, teacher, dx, dw);
      for (const int size : {2, 3})
        for (const bool teacher_in_parts : {false, true}) {
          CAPTURE(size);
          CAPTURE(vocabulary);
          CAPTURE(name_of(type));
          run_thread_ranks(size, [&](const std::shared_ptr<Communicator>& ranks) {
            const RankPart part = Share{ranks->rank(), size}.rows({padded});
            const auto part_of = [&](const Tensor& whole, float softcap) {
              ops::Head head{std::make_shared<DenseWeight>(take_part(whole, part)), 0, softcap, ranks};
              head.first = ranks->rank() * (padded / size);
              head.vocabulary = std::clamp<int64_t>(vocabulary - head.first, 0, padded / size);
              return head;
            };
            Tensor own_dx, own_dw;
            const double own =
                run(part_of(values, 0), teacher_in_parts ? part_of(teacher_values, 3) : teacher, own_dx, own_dw);
            const double close = type == DType::f32 ? 1e-5 : 2e-2;
            CHECK(own == doctest::Approx(loss).epsilon(close));
            CHECK(relative_error(own_dx, dx) < close);
            CHECK(relative_error(own_dw, take_part(dw, part)) < close);
          });
        }
    }
}

TEST_CASE("an embedding in parts looks up and learns as the whole") {
  const Tensor table = random_tensor({12, 8}, 1), slope = random_tensor({7, 8}, 2);
  const std::vector<int32_t> ids = {0, 11, 5, 6, 5, 0, 3};
  const auto whole = std::make_shared<DenseWeight>(table.clone());
  Tensor expected;
  {
    Tape tape;
    const Var y = ops::embedding(ids, whole);
    expected = y.value();
    tape.backward(y, slope.clone());
  }
  for (const int size : {2, 3})
    run_thread_ranks(size, [&](const std::shared_ptr<Communicator>& ranks) {
      const RankPart part = Share{ranks->rank(), size}.rows({12});
      const auto own = std::make_shared<DenseWeight>(take_part(table, part));
      Tape tape;
      const Var y = ops::embedding_of_parts(ids, own, ranks->rank() * own->rows(), ranks);
      CHECK(relative_error(y.value(), expected) == 0);
      tape.backward(y, slope.clone());
      CHECK(relative_error(own->parameter()->grad, take_part(whole->parameter()->grad, part)) == 0);
    });
}
