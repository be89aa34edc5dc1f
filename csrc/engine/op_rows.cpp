// Operations that work row by row: embedding, norm, selection.
#include <string.h>

#include "engine/executor.h"

namespace llamaq {

void Executor::run(const EmbedOp& op, const Call& call) {
  const Weight& table = weight(op.weight);
  const int64_t bytes = row_bytes(table.format, table.cols);
  for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
    float* y = slot_data(op.out) + i * table.cols;
    kernels_.dequantize[static_cast<int>(table.format)](table.data + call.step.tokens[i] * bytes, y, table.cols);
    if (op.scale != 1.0f) kernels_.scale(y, op.scale, table.cols);
  }
}

void Executor::run(const RmsNormOp& op, const Call& call) {
  const int64_t width = weight(op.weight).cols;
  for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;)
    kernels_.rms_norm(slot_data(op.in) + i * width, vector(op.weight), op.eps, width, slot_data(op.out) + i * width);
}

void Executor::run(const SelectRowsOp& op, const Call& call) {
  const int64_t width = op.cols;
  for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;)
    memcpy(slot_data(op.out) + i * width, slot_data(op.in) + call.step.selected[i] * width,
           static_cast<size_t>(width) * 4);
}

}  // namespace llamaq
