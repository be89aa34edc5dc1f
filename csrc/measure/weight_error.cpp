#include "measure/weight_error.h"

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"

namespace llamaq {

constexpr int64_t kWeightPiece = 8192;  // weights decoded at a time: whole blocks of every format, and both fit a cache
constexpr int kSums = 8;                // sums kept side by side, so that the compiler may use vectors

static int64_t offset_of(Format format, int64_t weight) {
  const FormatInfo& info = *format_info(static_cast<int>(format));
  return weight / info.block * info.block_bytes;
}

static WeightError sum_squares(const float* base, const float* other, int64_t n) {
  std::array<double, kSums> squares{}, errors{};
  for (int64_t i = 0; i < n; i += kSums)  // the buffers end in zeros up to whole lanes
    for (int lane = 0; lane < kSums; ++lane) {
      const double x = base[i + lane], difference = other[i + lane] - x;
      squares[static_cast<size_t>(lane)] += x * x;
      errors[static_cast<size_t>(lane)] += difference * difference;
    }
  WeightError total;
  for (const double square : squares) total.base_squares += square;
  for (const double error : errors) total.error_squares += error;
  return total;
}

WeightError weight_error(const KernelTable& kernels, ThreadTeam& team, Format base_format, const uint8_t* base,
                         Format other_format, const uint8_t* other, int64_t n,
                         const std::function<bool()>& interrupted) {
  const int pieces = static_cast<int>((n + kWeightPiece - 1) / kWeightPiece);
  std::vector<WeightError> found(static_cast<size_t>(pieces));  // these are added up in order at the end
  const auto decode = [&](Format format, const uint8_t* data, int64_t begin, int64_t count, float* out) {
    kernels.dequantize[static_cast<int>(format)](data + offset_of(format, begin), out, count);
    std::fill(out + count, out + (count + kSums - 1) / kSums * kSums, 0.0f);
  };
  const bool whole = team.run(
      [&](Worker& worker) {
        std::vector<float> x(kWeightPiece), y(kWeightPiece);
        for (int p; (p = worker.next_chunk(pieces)) >= 0;) {
          const int64_t begin = p * kWeightPiece, count = std::min(kWeightPiece, n - begin);
          decode(base_format, base, begin, count, x.data());
          decode(other_format, other, begin, count, y.data());
          found[static_cast<size_t>(p)] = sum_squares(x.data(), y.data(), count);
        }
      },
      interrupted);
  if (!whole) throw Cancelled();
  WeightError total;
  for (const WeightError& piece : found) {
    total.base_squares += piece.base_squares;
    total.error_squares += piece.error_squares;
  }
  return total;
}

}  // namespace llamaq
