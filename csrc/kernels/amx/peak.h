// The peak of the tiles: full tiles, four sums that do not wait for one another.

inline int64_t tile_peak(int64_t rounds, const uint8_t* data, int32_t* sum) {
  using Memory = uint8_t[1024];
  const int8_t* rows = reinterpret_cast<const int8_t*>(data);
  const Memory& memory = *reinterpret_cast<const Memory*>(data);
  configure_tiles(kFullTiles);
  zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
  load_tile<4>(rows, 64, memory), load_tile<5>(rows, 64, memory);
  load_tile<6>(rows, 64, memory), load_tile<7>(rows, 64, memory);
  for (int64_t i = 0; i < rounds; ++i) {
    add_tile_product<0, 4, 6>(), add_tile_product<1, 4, 7>();
    add_tile_product<2, 5, 6>(), add_tile_product<3, 5, 7>();
  }
  alignas(64) TileSums sums[4];
  store_tile<0>(sums[0]), store_tile<1>(sums[1]), store_tile<2>(sums[2]), store_tile<3>(sums[3]);
  release_tiles();
  *sum = sums[0][0][0] | sums[1][1][1] | sums[2][2][2] | sums[3][3][3];
  return rounds * 4 * 2 * 16 * 16 * 64;
}
