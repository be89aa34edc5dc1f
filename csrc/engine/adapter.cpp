#include "engine/adapter.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace llamaq {

void Adapter::add(int weight, int64_t rank, Format a_format, const uint8_t* a, Format b_format, const uint8_t* b,
                  double scale) {
  if (weight < 0 || weight >= static_cast<int>(of_.size())) throw Error("no weight " + std::to_string(weight));
  const Weight& w = model_.all()[static_cast<size_t>(weight)];
  if (of_[static_cast<size_t>(weight)] >= 0) throw Error("a weight has one pair of factors");
  const auto stack = [&](Format format, int64_t rows, int64_t cols, const uint8_t* data) {
    return weights_.stack(format, w.matrices, rows, cols, rows * row_bytes(format, cols), data);
  };
  const bool table = !w.kernel;
  if (table && a_format != Format::F32) throw Error("factors of a table's rows are F32");
  const Factors factors{
      table ? weights_.vector(reinterpret_cast<const float*>(a), w.rows * rank) : stack(a_format, rank, w.cols, a),
      stack(b_format, table ? w.cols : w.rows, rank, b), scale};
  for (const int i : {factors.a, factors.b})
    if (const MatmulKernel* kernel = this->weight(i).kernel; kernel && kernel->quantized_input)
      throw Error("factors are F32, F16 or BF16");
  of_[static_cast<size_t>(weight)] = static_cast<int>(factors_.size());
  factors_.push_back(factors);
  most_rank_ = std::max(most_rank_, rank);
}

void Adapter::add_direction(int op, int slot, const float* values, int64_t count) {
  if (!directions_.emplace(op, Direction{slot, {values, values + count}}).second)
    throw Error("an op has one direction");
}

void Adapter::pack() {
  ThreadTeam alone(1, false);  // the model's own team may be at work
  weights_.pack(alone);
}

std::vector<Addition> additions_of(const Step& step, bool selected) {
  std::vector<Addition> found;
  if (!step.adapted) return found;
  const int rows = selected ? step.n_selected : step.rows;
  const auto of = [&](int row) { return step.adapted[step.sequences[selected ? step.selected[row] : row]]; };
  for (int first = 0, end; first < rows; first = end) {
    const int which = of(first);
    for (end = first + 1; end < rows && of(end) == which;) ++end;
    if (which < 0) continue;
    for (const Adaptation& one : step.adaptations[static_cast<size_t>(which)])
      found.push_back({first, end - first, one.adapter, one.scale});
  }
  return found;
}

}  // namespace llamaq
