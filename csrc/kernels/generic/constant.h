// Numbers that are types, so that a lambda sees a constant: a shift by a variable costs two instructions more on x86,
// and gcc 12 turned `#pragma GCC unroll` into wrong sums.

template <int kValue>
struct Constant {
  constexpr operator int() const { return kValue; }
};

// f(Constant<0>()), f(Constant<1>()) and so on.
template <int kCount, class F>
inline void times(const F& f) {
  if constexpr (kCount > 1) times<kCount - 1>(f);
  f(Constant<kCount - 1>());
}

template <class F>
inline void four_times(const F& f) {
  times<4>(f);
}

template <class F>
inline void eight_times(const F& f) {
  times<8>(f);
}
