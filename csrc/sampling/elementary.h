// exp and log of additions, multiplications and divisions alone: C libraries differ in their last bits, and some of
// them from CPU to CPU.
#pragma once
#include <stdint.h>
#include <string.h>

#include <cmath>
#include <limits>

namespace llamaq {

// exp(x) for x <= 0, within 3 units of the last place; 0 below -87.33. Loops over it vectorize.
inline float exp_nonpositive(float x) {
  const float lowest = -87.33f, to_integer = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float t = x < lowest ? lowest : x;
  const float n = (t * 1.44269504088896341f + to_integer) - to_integer;
  const float r = (t - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;  // the polynomial of Cephes' expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float y = (p * (r * r) + r) + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) * (1 << 23);
  float power;
  memcpy(&power, &bits, 4);
  return x < lowest ? 0.0f : y * power;
}

constexpr double kLog2High = 6.93147180369123816490e-01, kLog2Low = 1.90821492927058770002e-10;  // their sum is log 2

// exp(x) by its series around the nearest multiple of log 2.
inline double exact_exp(double x) {
  if (!(x < 709.78)) return x != x ? x : std::numeric_limits<double>::infinity();
  if (x < -745.0) return 0;
  const double n = std::rint(x * 1.44269504088896338700e+00);
  const double r = (x - n * kLog2High) - n * kLog2Low;
  double sum = 1;
  for (int i = 14; i > 0; --i) sum = 1 + sum * r / i;
  return std::ldexp(sum, static_cast<int>(n));
}

// log(x) by the series of artanh; -inf for 0, NaN below.
inline double exact_log(double x) {
  if (!(x > 0)) return x == 0 ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  if (x == std::numeric_limits<double>::infinity()) return x;
  int n;
  double m = std::frexp(x, &n);
  if (m < 0.70710678118654752440) m *= 2, --n;
  const double s = (m - 1) / (m + 1), z = s * s;
  double sum = 0;
  for (int i = 25; i > 0; i -= 2) sum = sum * z + 1.0 / i;
  return n * kLog2High + (2 * s * sum + n * kLog2Low);
}

}  // namespace llamaq
