#include "engine/tiles.h"

#include <algorithm>

namespace llamaq {

void Tiles::lay(const Step& step) {
  tiles_.clear();
  apart_ = true;
  std::vector<bool> known(static_cast<size_t>(step.n_sequences));
  const auto parted = [&](int row) {
    return by_time_ && step.places && step.places[3 * row] != step.places[3 * (row - 1)];
  };
  for (int row = 0; row < step.rows; ++row) {
    if (row && step.sequences[row] == step.sequences[row - 1] && !parted(row) && tiles_.back().rows < most_rows_) {
      ++tiles_.back().rows;
      continue;
    }
    const auto sequence = static_cast<size_t>(step.sequences[row]);
    apart_ = apart_ && !known[sequence];
    known[sequence] = true;
    tiles_.push_back({row, 1});
  }
  std::stable_sort(tiles_.begin(), tiles_.end(),
                   [&](const Tile& a, const Tile& b) { return step.positions[a.first] > step.positions[b.first]; });
}

}  // namespace llamaq
