#include "engine/resources.h"

namespace llamaq {

void Resources::check_vector(int i, int64_t n) const {
  const Weight& w = checked_weight(i);
  if (w.rows != 1 || w.format != Format::F32 || w.cols != n)
    throw Error("a vector of " + std::to_string(n) + " floats is wanted, got " + std::to_string(w.cols));
}

int Resources::tiles_of(int most_rows, bool by_time) {
  for (size_t i = 0; i < tiles.size(); ++i)
    if (tiles[i].most_rows() == most_rows && tiles[i].by_time() == by_time) return static_cast<int>(i);
  tiles.emplace_back(most_rows, by_time);
  return static_cast<int>(tiles.size()) - 1;
}

}  // namespace llamaq
