// Matrix products with their prologue (norm, quantization of activations) and epilogue (bias, residual, activation).
#include <algorithm>

#include "engine/executor.h"
#include "engine/row_groups.h"
#include "engine/unpacked.h"

namespace llamaq {

// Norms and quantizes the rows that an op's matmuls read. A few rows are cheaper done by every worker for itself than
// a meeting; many are shared out, and are rounded to bfloat16 instead where that is allowed.
Executor::Input Executor::prepare(int in, int64_t width, const Norm& norm, bool quantized, const Call& call) {
  const bool own = call.rows <= kOwnRows, fast = fast_ && call.rows > kFastRows;
  Scratch& scratch = scratch_[static_cast<size_t>(call.worker.id())];
  float* normed = own ? scratch.rows : shared_rows_;
  QuantBlock* blocks = own ? scratch.blocks : shared_blocks_;
  const auto row = [&](int i) {
    const float* x = slot_data(in) + i * width;
    if (norm.weight >= 0) {
      kernels_.rms_norm(x, vector(norm.weight), norm.eps, width, normed + i * width);
      x = normed + i * width;
    }
    if (fast)
      round_into_group(kernels_, x, width, i, call.rows, shared_bf16_);
    else if (quantized)
      quantize_into_group(kernels_, x, width, i, call.rows, blocks);
  };
  if (norm.weight >= 0 || quantized || fast) {
    if (own) {
      for (int i = 0; i < call.rows; ++i) row(i);
    } else {
      for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) row(i);
      call.worker.sync();
    }
  }
  const Input input{norm.weight >= 0 ? normed : slot_data(in), blocks, fast ? shared_bf16_ : nullptr};
  if (call.squares) add_squares(input.x, width, call);
  return input;
}

// A column belongs to one worker, which takes the rows in order: the sums do not depend on the number of threads.
void Executor::add_squares(const float* x, int64_t width, const Call& call) {
  const int chunks = static_cast<int>((width + kSquareColumns - 1) / kSquareColumns);
  for (int c; (c = call.worker.next_chunk(chunks)) >= 0;) {
    const int64_t begin = c * kSquareColumns, end = std::min(width, begin + kSquareColumns);
    double* sums = call.squares->sums.data();
    for (int i = 0; i < call.rows; ++i)
      for (int64_t j = begin; j < end; ++j) {
        const double value = x[i * width + j];
        sums[j] += value * value;
      }
    if (c == 0) call.squares->rows += call.rows;
  }
  call.worker.sync();
}

// y[i][0 .. end-begin) = rows begin .. end of the weight times row i of the input, plus the bias.
void Executor::project(const Projection& p, const Input& input, const Call& call, int64_t begin, int64_t end, float* y,
                       int64_t stride) {
  const Weight& w = weight(p.weight);
  const int rows = call.rows;
  const void* x = w.kernel->quantized_input ? static_cast<const void*>(input.blocks) : input.x;
  const MatmulArgs args{w.data, input.bf16 ? input.bf16 : x, rows, w.rows, w.cols, begin, end, y, stride};
  const auto run = input.bf16 ? w.kernel->fast : w.kernel->run;
  if (w.packed)
    run(args);
  else
    matmul_unpacked(w, run, args, scratch_[static_cast<size_t>(call.worker.id())].packed);
  if (p.bias < 0) return;
  const float* bias = vector(p.bias) + begin;
  for (int i = 0; i < rows; ++i) kernels_.add(y + i * stride, bias, y + i * stride, end - begin);
}

// Whole tiles of 16 rows, small enough that every worker gets several and that the last is soon done. Many rows of x,
// which each chunk reads anew, are worth larger chunks.
int Executor::chunk_rows(int64_t total, const Call& call) const {
  const int64_t share = total / (team_.size() * 8) / 16 * 16;
  return static_cast<int>(std::clamp<int64_t>(share, 16, call.rows > kGroupRows ? kChunkRows : kChunkRows / 2));
}

void Executor::run(const LinearOp& op, const Call& call) {
  bool quantized = false;
  int64_t total = 0;
  for (const Projection& p : op.projections) {
    quantized |= weight(p.weight).kernel->quantized_input;
    total += weight(p.weight).rows;
  }
  const Input input = prepare(op.in, weight(op.projections[0].weight).cols, op.norm, quantized, call);
  const int per_chunk = chunk_rows(total, call);
  const auto chunks_of = [&](const Projection& p) {
    return static_cast<int>((weight(p.weight).rows + per_chunk - 1) / per_chunk);
  };
  int chunks = 0;
  for (const Projection& p : op.projections) chunks += chunks_of(p);
  for (int c; (c = call.worker.next_chunk(chunks)) >= 0;) {
    const Projection* p = op.projections.data();
    for (; c >= chunks_of(*p); ++p) c -= chunks_of(*p);
    const int64_t rows = weight(p->weight).rows, begin = int64_t{c} * per_chunk,
                  end = std::min(rows, begin + per_chunk);
    float* y = (call.final ? call.final : slot_data(p->out)) + begin;
    project(*p, input, call, begin, end, y, rows);
    if (op.add < 0) continue;
    const float* residual = slot_data(op.add) + begin;
    for (int i = 0; i < call.rows; ++i) kernels_.add(residual + i * rows, y + i * rows, y + i * rows, end - begin);
  }
}

void Executor::run(const GluLinearOp& op, const Call& call) {
  const Weight &gate = weight(op.gate.weight), &up = weight(op.up.weight);
  const bool quantized = gate.kernel->quantized_input || up.kernel->quantized_input;
  const Input input = prepare(op.in, gate.cols, op.norm, quantized, call);
  const int per_chunk = chunk_rows(gate.rows, call);
  const int chunks = static_cast<int>((gate.rows + per_chunk - 1) / per_chunk);
  float* up_out = scratch_[static_cast<size_t>(call.worker.id())].chunk;
  for (int c; (c = call.worker.next_chunk(chunks)) >= 0;) {
    const int64_t begin = int64_t{c} * per_chunk, end = std::min(gate.rows, begin + per_chunk);
    float* y = slot_data(op.gate.out) + begin;
    project(op.gate, input, call, begin, end, y, gate.rows);
    project(op.up, input, call, begin, end, up_out, kChunkRows);
    for (int i = 0; i < call.rows; ++i)
      kernels_.swiglu(y + i * gate.rows, up_out + i * kChunkRows, y + i * gate.rows, end - begin);
  }
}

}  // namespace llamaq
