// Adapters: low-rank factors whose products are added to those of a model's matrices, and to rows of its tables; vectors
// that are added to what ops make.
#pragma once
#include <map>
#include <vector>

#include "engine/step.h"
#include "engine/weights.h"

namespace llamaq {

// The product of one of the model's matrices with x gets B * (A * x * scale) added; of a stack each matrix has its own.
// Row i of a table gets B * (row i of A * scale) added; the rows of A lie one after the other there, as F32.
struct Factors {
  int a, b;  // numbers among the adapter's own weights; the columns of B are the rank
  double scale;
};

// Each row of a slot gets the values times the scale added once an op has run: the outputs of a layer move in a direction.
struct Direction {
  int slot;
  std::vector<float> values;
};

class Adapter {
 public:
  // `model` must outlive this object.
  explicit Adapter(const Weights& model) : model_(model), weights_(model.table()), of_(model.all().size(), -1) {}

  // The factors of the model's weight of that number: rank rows A, and B with its rows, one after the other for the
  // matrices of a stack; of a table its rows A, and B with its columns. The data must stay until pack(). Throws Error
  // where they do not fit, or are not floats.
  void add(int weight, int64_t rank, Format a_format, const uint8_t* a, Format b_format, const uint8_t* b,
           double scale);
  void pack();
  // Throws Error for a second one of an op.
  void add_direction(int op, int slot, const float* values, int64_t count);

  // Null where the adapter leaves the weight as it is.
  const Factors* of(int weight) const {
    const int found = of_[static_cast<size_t>(weight)];
    return found < 0 ? nullptr : &factors_[static_cast<size_t>(found)];
  }
  // By op; an adapter may have none of them all.
  const std::map<int, Direction>& directions() const { return directions_; }
  const Weight& weight(int i) const { return weights_.all()[static_cast<size_t>(i)]; }
  const Weights& model() const { return model_; }
  int64_t most_rank() const { return most_rank_; }

 private:
  const Weights& model_;
  Weights weights_;
  std::vector<Factors> factors_;
  std::vector<int> of_;  // index: weight of the model
  std::map<int, Direction> directions_;
  int64_t most_rank_ = 0;
};

// Rows of an op, side by side, whose products one adapter adds to.
struct Addition {
  int first, rows;
  const Adapter* adapter;
  double scale;
};

// The additions of a step's rows, or of the selected ones: runs of rows whose sequences have the same adapters.
std::vector<Addition> additions_of(const Step& step, bool selected);

}  // namespace llamaq
