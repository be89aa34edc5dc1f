// The micro-kernel in plain terms: kRows rows of x times a panel.

constexpr int kDirectRows = 1;  // groups of up to so many rows of x unpack weights in registers

template <class W>
constexpr int64_t most_grouped_rows() {  // calls of up to so many rows of x need no panels of many blocks
  return 16;
}

template <class W>
constexpr int most_tile_rows() {  // their integer sums and a word of weights fill the registers
  return 4;
}

// acc[m] += row m of x times the panel; `width` lies between a block of a row and its next.
template <class P, int kRows>
__attribute__((noinline)) void panel_tile(const PanelOf<P>* panel, int blocks, const QuantBlock* x, int width,
                                          F32* acc) {
  for (; blocks > 0; --blocks, ++panel, x += width)
    add_block<P, kRows>(PanelWords{panel->words}, scales_of(*panel), x, acc);
}
