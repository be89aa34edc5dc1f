#include "engine/rope.h"

#include <math.h>

namespace llamaq {

// pi/2 in three parts; the first two have trailing zeros, so that n * part is exact for the n that occur.
static constexpr double kPart1 = 1.57079632673412561417e+00, kPart2 = 6.07710050630396597660e-11,
                        kPart3 = 2.02226624879595063154e-21;

// Polynomials of fdlibm's __kernel_sin and __kernel_cos on [-pi/4, pi/4].
static double sine(double r, double z) {
  const double p =
      8.33333333332248946124e-03 +
      z * (-1.98412698298579493134e-04 +
           z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)));
  return r + (r * z) * (-1.66666666666666324348e-01 + z * p);
}

static double cosine(double z) {
  const double p =
      -1.38888888888741095749e-03 +
      z * (2.48015872894767294178e-05 +
           z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)));
  return (1 - 0.5 * z) + (z * z) * (4.16666666666666019037e-02 + z * p);
}

void rotation(const Rope& rope, int position, const int32_t* places, float* cos, float* sin) {
  const bool by_axes = places && !rope.axes.empty();
  for (size_t i = 0; i < rope.frequencies.size(); ++i) {
    const double angle = (by_axes ? places[rope.axes[i]] : position) * rope.frequencies[i];
    const double n = rint(angle * 0.6366197723675814);
    const double r = ((angle - n * kPart1) - n * kPart2) - n * kPart3, z = r * r;
    const double s = sine(r, z), c = cosine(z);
    double turned_c = c, turned_s = s;
    switch (static_cast<int64_t>(n) & 3) {
      case 1: turned_c = -s, turned_s = c; break;
      case 2: turned_c = -c, turned_s = -s; break;
      case 3: turned_c = s, turned_s = -c; break;
    }
    cos[i] = static_cast<float>(turned_c * rope.attention_factor);
    sin[i] = static_cast<float>(turned_s * rope.attention_factor);
  }
}

}  // namespace llamaq
