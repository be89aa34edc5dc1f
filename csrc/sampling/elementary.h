// exp and log of additions, multiplications and divisions alone: C libraries differ in their last bits, and some of
// them from CPU to CPU.
#pragma once
#include <stdint.h>

#include <cmath>
#include <limits>

namespace llamaq {

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
