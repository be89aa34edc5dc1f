#include "quantize/quantize.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "cpu/features.h"
#include "kernels/dispatch.h"
#include "kernels/encode_table.h"

namespace llamaq {

// The slowest come first. Levels that add integer products alone share the searches of the level that they build on.
static const EncodeTable* const kTables[] = {
    &llamaq_encode_scalar,
#if defined(LLAMAQ_AVX2)
    &llamaq_encode_avx2,
#endif
#if defined(LLAMAQ_AVX512)
    &llamaq_encode_avx512,
#endif
#if defined(LLAMAQ_NEON)
    &llamaq_encode_neon,
#endif
};

// The last table that asks for nothing beyond the level.
static const EncodeTable& table_for(const KernelTable& level) {
  const EncodeTable* best = kTables[0];
  if (std::string(level.isa) != best->isa)
    for (const EncodeTable* table : kTables)
      if ((table->needs & ~level.needs) == 0) best = table;
  return *best;
}

namespace {

constexpr uint32_t kTooLarge = (127u + 50u) << 23;  // the bits of 2^50
constexpr int64_t kChunk = 1 << 16;                 // elements that a thread takes at a time

class Job {
 public:
  Job(const QuantizeArgs& args, const KernelTable& level)
      : args_(args),
        decode_(level.dequantize[static_cast<int>(args.from)]),
        encode_(table_for(level).encode[static_cast<int>(args.to)]),
        info_(*format_info(static_cast<int>(args.to))),
        src_row_(row_bytes(args.from, args.cols)),
        dst_row_(row_bytes(args.to, args.cols)) {
    if (!encode_) throw Error(std::string("llamaq has no search for ") + info_.name + "; choose another format");
    // So many rows are whole batches, and all steps but the last one take a multiple of them.
    const int64_t blocks = args.cols / info_.block;
    const int64_t whole = kBatch / std::gcd<int64_t>(kBatch, blocks);
    step_ = whole * std::max<int64_t>(1, kChunk / (whole * args.cols));
    if (args.weights)
      for (int64_t i = 0; i < padded(std::min(step_, args.rows)); ++i) weights_.push_back(weight(i));
  }

  int64_t run(ThreadTeam& team) {
    const int64_t chunks = (args_.rows + step_ - 1) / step_;
    team.run([&](Worker& worker) {
      std::vector<float> x(static_cast<size_t>(padded(std::min(step_, args_.rows))));
      std::vector<uint8_t> tail;
      for (int i; (i = worker.next_chunk(static_cast<int>(chunks))) >= 0;) chunk(i * step_, x, tail);
    });
    const int64_t bad = bad_row_.load();
    return bad < args_.rows ? bad : -1;
  }

 private:
  // These are the elements of the rows, filled up to whole batches.
  int64_t padded(int64_t rows) const {
    const int64_t batch = int64_t{kBatch} * info_.block;
    return (rows * args_.cols + batch - 1) / batch * batch;
  }
  float weight(int64_t i) const { return args_.weights[i % args_.cols]; }

  void chunk(int64_t first, std::vector<float>& x, std::vector<uint8_t>& tail) {
    const int64_t rows = std::min(step_, args_.rows - first), n = rows * args_.cols, all = padded(rows);
    decode_(args_.src + first * src_row_, x.data(), n);
    check(x.data(), first, rows);
    if (bad_row_.load(std::memory_order_relaxed) < args_.rows) return;
    std::fill(x.begin() + n, x.begin() + all, 0.0f);
    const float* w = weights_.empty() ? nullptr : weights_.data();
    const int64_t batch = int64_t{kBatch} * info_.block, batches = n / batch;
    uint8_t* dst = args_.dst + first * dst_row_;
    encode_(x.data(), w, batches, dst);
    if (n == batches * batch) return;
    tail.resize(static_cast<size_t>(kBatch * info_.block_bytes));
    encode_(x.data() + batches * batch, w ? w + batches * batch : nullptr, 1, tail.data());
    const int64_t done = batches * kBatch * info_.block_bytes;
    memcpy(dst + done, tail.data(), static_cast<size_t>(rows * dst_row_ - done));
  }

  void check(const float* x, int64_t first, int64_t rows) {
    for (int64_t row = 0; row < rows; ++row, x += args_.cols) {
      uint32_t most = 0;  // the bits of infinity and NaN are greater than those of any number
      for (int64_t i = 0; i < args_.cols; ++i) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        most = std::max(most, bits & 0x7fffffffu);
      }
      if (most < kTooLarge) continue;
      int64_t seen = bad_row_.load();
      while (first + row < seen && !bad_row_.compare_exchange_weak(seen, first + row)) {
      }
      return;
    }
  }

  const QuantizeArgs& args_;
  void (*const decode_)(const uint8_t*, float*, int64_t);
  void (*const encode_)(const float*, const float*, int64_t, uint8_t*);
  const FormatInfo& info_;
  const int64_t src_row_, dst_row_;
  int64_t step_;
  std::vector<float> weights_;
  std::atomic<int64_t> bad_row_{INT64_MAX};
};

}  // namespace

int64_t quantize_rows(const QuantizeArgs& args, ThreadTeam& team, const char* isa) {
  if (args.rows <= 0 || args.cols <= 0) return -1;
  return Job(args, kernel_table(isa)).run(team);
}

}  // namespace llamaq
