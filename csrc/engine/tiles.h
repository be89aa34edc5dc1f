// Tiles: a few rows of one sequence, which attention reads the cache for together.
#pragma once
#include <vector>

#include "engine/step.h"

namespace llamaq {

struct Tile {
  int first, rows;
};

class Tiles {
 public:
  explicit Tiles(int most_rows, bool by_time = false) : most_rows_(most_rows), by_time_(by_time) {}

  void lay(const Step& step);  // cuts a step's rows, those that come latest in their sequences first

  int most_rows() const { return most_rows_; }
  bool by_time() const { return by_time_; }  // rows of different times (Step::places) lie in different tiles
  int count() const { return static_cast<int>(tiles_.size()); }
  const Tile& operator[](int i) const { return tiles_[static_cast<size_t>(i)]; }
  bool apart() const { return apart_; }  // no two tiles belong to one sequence

 private:
  int most_rows_;
  bool by_time_;
  std::vector<Tile> tiles_;
  bool apart_ = true;
};

}  // namespace llamaq
