// Numbers that are types, so that a lambda sees a constant: a shift by a variable costs two instructions more on x86,
// and gcc 12 turned `#pragma GCC unroll` into wrong sums.

template <int kValue>
struct Constant {
  constexpr operator int() const { return kValue; }
};

template <class F>
inline void four_times(const F& f) {
  f(Constant<0>()), f(Constant<1>()), f(Constant<2>()), f(Constant<3>());
}

template <class F>
inline void eight_times(const F& f) {
  f(Constant<0>()), f(Constant<1>()), f(Constant<2>()), f(Constant<3>());
  f(Constant<4>()), f(Constant<5>()), f(Constant<6>()), f(Constant<7>());
}
