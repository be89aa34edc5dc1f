// exp, tanh and the activations built on exp: the same operations in the same order on every instruction set.
// The polynomials are those of Cephes; docs/numerics.md gives the steps.

inline F32 power_of_two(I32 n) { return from_bits(shift_left(n + splat_i32(127), 23)); }

// exp(x) / 2^n, for n the integer next to x / log 2
inline F32 exp_fraction(F32 x, I32 n) {
  F32 r = fma(to_f32(n), splat(-0.693359375f), x);
  r = fma(to_f32(n), splat(2.12194440e-4f), r);
  F32 p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  return fma(p, r * r, r) + splat(1);
}

inline F32 exp(F32 x) {
  const F32 highest = splat(88.72f), lowest = splat(-87.33f);
  // x is clamped for the polynomial; what lies outside is put right at the end. NaN passes through.
  const F32 t = where_greater(x, highest, highest, where_less(x, lowest, lowest, x));
  const I32 n = round_to_i32(t * splat(1.44269504088896341f));
  const I32 half = shift_right_signed(n, 1);
  const F32 y = exp_fraction(t, n) * power_of_two(half) * power_of_two(n - half);
  return where_greater(x, highest, splat(__builtin_inff()), where_less(x, lowest, splat(0), y));
}

// exp(x) for x <= 0, or NaN: one power of two is enough where no result overflows, and the bits stay the same.
inline F32 exp_nonpositive(F32 x) {
  const F32 lowest = splat(-87.33f);
  const F32 t = where_less(x, lowest, lowest, x);
  const I32 n = round_to_i32(t * splat(1.44269504088896341f));
  return where_less(x, lowest, splat(0), exp_fraction(t, n) * power_of_two(n));
}

// Cephes' tanhf: a polynomial near zero, elsewhere 1 - 2 / (exp(2 |x|) + 1) with the sign of x.
inline F32 tanh(F32 x) {
  const I32 sign = bits(x) & shift_left(splat_i32(1), 31);
  const F32 a = from_bits(bits(x) & splat_i32(0x7fffffff)), z = x * x;
  F32 p = splat(-5.70498872745e-3f);
  p = fma(p, z, splat(2.06390887954e-2f));
  p = fma(p, z, splat(-5.37397155531e-2f));
  p = fma(p, z, splat(1.33314422036e-1f));
  p = fma(p, z, splat(-3.33332819422e-1f));
  const F32 near = fma(p * z, x, x), far = splat(1) - splat(2) / (exp(a + a) + splat(1));
  return where_less(a, splat(0.625f), near, from_bits(bits(far) | sign));
}

inline F32 silu(F32 x) { return x / (splat(1) + exp(splat(0) - x)); }

inline F32 sigmoid(F32 x) { return splat(1) / (splat(1) + exp(splat(0) - x)); }

// The form with tanh: x * (1 + tanh(u)) / 2 = x / (1 + exp(-2u)).
inline F32 gelu(F32 x) {
  const F32 twice = x * fma(x * x, splat(0.0713548162726f), splat(1.5957691216f));
  return x / (splat(1) + exp(splat(0) - twice));
}

// The form with erf, of which h is half of what is left to 1: Abramowitz and Stegun, 7.1.26.
inline F32 gelu_erf(F32 x) {
  const F32 a = from_bits(bits(x) & splat_i32(0x7fffffff));
  const F32 t = splat(1) / fma(a, splat(0.231641888f), splat(1));
  F32 p = splat(0.5307027145f);
  p = fma(p, t, splat(-0.7265760135f));
  p = fma(p, t, splat(0.7107068705f));
  p = fma(p, t, splat(-0.142248368f));
  p = fma(p, t, splat(0.127414796f));
  const F32 h = (p * t) * exp((x * x) * splat(-0.5f));
  return x * where_less(x, splat(0), h, splat(1) - h);
}

// The form with the logistic function.
inline F32 gelu_quick(F32 x) { return x / (splat(1) + exp(splat(0) - x * splat(1.702f))); }

// The square of what is positive; NaN passes through.
inline F32 relu2(F32 x) {
  const F32 r = where_less(x, splat(0), splat(0), x);
  return r * r;
}

inline F32 silu_glu(F32 gate, F32 up) { return silu(gate) * up; }
inline F32 gelu_glu(F32 gate, F32 up) { return gelu(gate) * up; }
inline F32 sigmoid_glu(F32 gate, F32 up) { return sigmoid(gate) * up; }
inline F32 gelu_erf_glu(F32 gate, F32 up) { return gelu_erf(gate) * up; }
inline F32 relu2_glu(F32 gate, F32 up) { return relu2(gate) * up; }
inline F32 gelu_quick_glu(F32 gate, F32 up) { return gelu_quick(gate) * up; }
// This is gpt-oss' activation.
inline F32 clamped_glu(F32 gate, F32 up) {
  const F32 high = splat(7), low = splat(-7);
  const F32 g = where_greater(gate, high, high, gate);
  const F32 u = where_greater(up, high, high, where_less(up, low, low, up));
  return (g / (splat(1) + exp(splat(0) - g * splat(1.702f)))) * (u + splat(1));
}
