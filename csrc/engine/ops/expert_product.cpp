#include "engine/ops/expert_product.h"

#include <string.h>

#include <algorithm>

#include "engine/ops/additions.h"
#include "engine/row_groups.h"
#include "engine/unpacked.h"

namespace llamaq {

ExpertProduct::ExpertProduct(Attributes& a, bool own_rows) : used(a.integer("used")), own_rows_(own_rows) {
  const std::vector<int> ins = a.integers("ins");
  if (ins.size() < 2) throw Error("experts need rows and their routing");
  in = ins[0], routing = ins[1];
  const std::vector<int> weights = a.integers("weights"), biases = a.integers("biases", weights.size());
  for (size_t i = 0; i < weights.size(); ++i) stacks.push_back({weights[i], biases[i]});
}

ExpertProduct::ExpertProduct(Attributes& a, int heads, int stride)
    : in(a.integers("ins", 1)[0]), routing(-1), used(heads), own_rows_(true), stride_(stride) {
  stacks.push_back({a.integer("weight"), -1});
}

void ExpertProduct::check(Resources& r) const {
  if (stacks.empty()) throw Error("no weights");
  const Weight& one = r.checked_weight(stacks[0].weight);
  for (const Projection& p : stacks) {
    const Weight& w = r.checked_weight(p.weight);
    if (!w.kernel) throw Error("the weight has no matmul kernel");
    if (w.matrices != one.matrices || w.rows != one.rows || w.cols != one.cols)
      throw Error("the stacks differ in shape");
    if (p.bias >= 0) r.check_vector(p.bias, w.matrices * w.rows);
  }
  if (used < 1 || used > one.matrices) throw Error("a row has at least one expert, and at most all");
  if (routing < 0 && used != one.matrices) throw Error("each head has a matrix");
  if (routing >= 0 && 2 * used > r.cols(routing))
    throw Error("the routing needs a number and a weight for each expert of a row");
  if ((stride_ ? stride_ : one.cols) * (own_rows_ ? used : 1) > r.cols(in) || (stride_ && one.cols > stride_))
    throw Error("the stack has more columns than its input");
  r.most_projections = std::max(r.most_projections, stacks.size() * static_cast<size_t>(used));
}

bool ExpertProduct::any(const Resources& r, bool quantized) const {
  return std::any_of(stacks.begin(), stacks.end(),
                     [&](const Projection& p) { return r.weight(p.weight).kernel->quantized_input == quantized; });
}

int64_t ExpertProduct::block_bytes(const Resources& r, int64_t rows, bool bf16) const {
  return bf16 ? bf16_blocks(rows, cols(r)) * static_cast<int64_t>(sizeof(Bf16Block))
              : group_blocks(rows, cols(r)) * static_cast<int64_t>(sizeof(QuantBlock));
}

// Groups of several rows are filled up to multiples of four, or to 16 as bfloat16: at most three, or 15, for each expert.
ExpertProduct::Layout ExpertProduct::layout(const Resources& r) const {
  const int64_t pairs = int64_t{used} * r.max_rows, most = std::min(pairs, experts(r)), width = cols(r);
  const int64_t floats = any(r, false) ? 4 * width : 0;
  int64_t unpacked = 0;
  for (const Projection& p : stacks) unpacked = std::max(unpacked, unpacked_scratch(r.kernels, r.weight(p.weight)));
  Layout l;
  l.ids = Scratch::lines(4 * experts(r));  // behind a count for each expert
  l.first = l.ids + Scratch::lines(4 * most);
  l.at = l.first + Scratch::lines(4 * (most + 1));
  l.pairs = l.at + Scratch::lines(8 * most);
  l.own_blocks = l.pairs + Scratch::lines(4 * pairs);
  l.own_floats = l.own_blocks + 2 * used * block_bytes(r, 1, false);
  l.own_scaled = l.own_floats + Scratch::lines(used * floats);
  l.own_packed = l.own_scaled + Scratch::lines(4 * width);
  l.own_end = l.own_packed + Scratch::lines(unpacked);
  l.shared_floats = std::max((pairs + 3 * most) * block_bytes(r, 1, false),
                             r.fast ? block_bytes(r, pairs + 15 * most, true) + block_bytes(r, 16, true) : 0);
  l.shared_end = l.shared_floats + Scratch::lines(pairs * floats);
  return l;
}

Scratch ExpertProduct::scratch(const Resources& r) const {
  const Layout l = layout(r);
  return {l.shared_end, l.own_end};
}

// Every worker does it for itself: a meeting would take longer.
ExpertProduct::Rows ExpertProduct::sorted(const Call& call, const Layout& l) const {
  const Resources& r = call.r;
  const auto ints = [&](int64_t offset) { return reinterpret_cast<int*>(call.own + offset); };
  int *const cursor = ints(0), *const ids = ints(l.ids), *const first = ints(l.first), *const pairs = ints(l.pairs);
  int64_t* const at = reinterpret_cast<int64_t*>(call.own + l.at);
  const int count = call.rows * used, all = static_cast<int>(experts(r));
  const float* chosen = routing < 0 ? nullptr : r.slot(routing);
  const auto expert_of = [&](int pair) {  // the slot may hold anything: what comes is an expert that there is
    if (!chosen) return pair % used;
    const float id = chosen[pair / used * 2 * used + pair % used];
    return id >= 0 && id < static_cast<float>(all) ? static_cast<int>(id) : 0;
  };
  const bool bf16 = r.fast && call.rows > kFastRows;
  memset(cursor, 0, static_cast<size_t>(all) * sizeof(int));
  for (int i = 0; i < count; ++i) ++cursor[expert_of(i)];
  int present = 0, end = 0;
  int64_t bytes = 0;
  for (int e = 0; e < all; ++e) {
    const int rows = cursor[e];
    if (!rows) continue;
    ids[present] = e, first[present] = cursor[e] = end, at[present] = bytes;
    ++present, end += rows, bytes += block_bytes(r, rows, bf16);
  }
  first[present] = end;
  for (int i = 0; i < count; ++i) pairs[cursor[expert_of(i)]++] = i;
  return {present, ids, first, pairs, at, nullptr, nullptr, bf16};
}

const float* ExpertProduct::row(const Call& call, int pair) const {
  return call.r.slot(in) + (own_rows_ ? pair : pair / used) * (stride_ ? stride_ : cols(call.r));
}

// One row is cheaper prepared by every worker for itself; without weights it is then the same for all of its experts.
ExpertProduct::Rows ExpertProduct::prepare(const Call& call, bool weighted) const {
  const Resources& r = call.r;
  const Layout l = layout(r);
  const int64_t width = cols(r);
  const bool own = call.rows == 1, same = own && !own_rows_ && !weighted;
  Rows rows = sorted(call, l);
  uint8_t* const blocks = own ? call.own + l.own_blocks : call.shared;
  float* const floats = reinterpret_cast<float*>(own ? call.own + l.own_floats : call.shared + l.shared_floats);
  if (same) std::fill_n(reinterpret_cast<int64_t*>(call.own + l.at), rows.experts, 0);
  rows.blocks = blocks, rows.floats = floats;
  const bool rounded = rows.bf16 || any(r, true), plain = !rows.bf16 && any(r, false);
  const float* const chosen = weighted ? r.slot(routing) : nullptr;
  float* const scaled = reinterpret_cast<float*>(call.own + l.own_scaled);
  const auto put = [&](int i) {
    const int pair = rows.pairs[i];
    const float* row = this->row(call, pair);
    if (weighted) {
      memcpy(scaled, row, static_cast<size_t>(width) * 4);
      r.kernels.scale(scaled, chosen[pair / used * 2 * used + used + pair % used], width);
      row = scaled;
    }
    if (plain) memcpy(floats + i * width, row, static_cast<size_t>(width) * 4);
    if (!rounded) return;
    const int n = static_cast<int>(std::upper_bound(rows.first, rows.first + rows.experts, i) - rows.first) - 1;
    const int begin = rows.first[n], count = rows.first[n + 1] - begin;
    if (rows.bf16)
      round_into_group(r.kernels, row, width, i - begin, count, reinterpret_cast<Bf16Block*>(blocks + rows.at[n]));
    else
      quantize_into_group(r.kernels, row, width, i - begin, count, reinterpret_cast<QuantBlock*>(blocks + rows.at[n]));
  };
  if (own) {
    for (int i = 0; i < (same && !plain ? 1 : used); ++i) put(i);
  } else {
    for (int i; (i = call.worker.next_chunk(call.rows * used)) >= 0;) put(i);
    call.worker.sync();
  }
  if (call.squares) add_squares(rows, call, weighted);
  if (!call.additions.empty()) lower_rows(rows, call, weighted);
  return rows;
}

void ExpertProduct::lower_rows(const Rows& rows, const Call& call, bool weighted) const {
  const Resources& r = call.r;
  const float* const chosen = weighted ? r.slot(routing) : nullptr;
  float* const scaled = reinterpret_cast<float*>(call.own + layout(r).own_scaled);
  for (int i; (i = call.worker.next_chunk(call.rows * used)) >= 0;) {
    const int n = static_cast<int>(std::upper_bound(rows.first, rows.first + rows.experts, i) - rows.first) - 1;
    const int pair = rows.pairs[i];
    const float* x = row(call, pair);
    if (weighted) {
      memcpy(scaled, x, static_cast<size_t>(cols(r)) * 4);
      r.kernels.scale(scaled, chosen[pair / used * 2 * used + used + pair % used], cols(r));
      x = scaled;
    }
    lower_row(stacks, rows.ids[n], pair / used, pair % used, used, x, call);
  }
  call.worker.sync();
}

// A column belongs to one worker, which takes the rows in order: the sums do not depend on the number of threads.
void ExpertProduct::add_squares(const Rows& rows, const Call& call, bool weighted) const {
  const Resources& r = call.r;
  const int64_t width = cols(r);
  const float* const chosen = weighted ? r.slot(routing) : nullptr;
  const int chunks = static_cast<int>((width + kSquareColumns - 1) / kSquareColumns);
  for (int c; (c = call.worker.next_chunk(chunks)) >= 0;) {
    const int64_t begin = c * kSquareColumns, end = std::min(width, begin + kSquareColumns);
    for (int n = 0; n < rows.experts; ++n) {
      double* sums = call.squares->sums.data() + rows.ids[n] * width;
      for (int i = rows.first[n]; i < rows.first[n + 1]; ++i) {
        const int pair = rows.pairs[i];
        const float* row = this->row(call, pair);
        const float factor = weighted ? chosen[pair / used * 2 * used + used + pair % used] : 1.0f;
        for (int64_t j = begin; j < end; ++j) {
          const double value = row[j] * factor;
          sums[j] += value * value;
        }
      }
      if (c == 0) call.squares->rows[static_cast<size_t>(rows.ids[n])] += rows.first[n + 1] - rows.first[n];
    }
  }
  call.worker.sync();
}

void ExpertProduct::project(const Projection& stack, const Rows& rows, int n, int first, int count, const Call& call,
                            int64_t begin, int64_t end, float* y, int64_t stride) const {
  const Resources& r = call.r;
  const Weight w = r.weight(stack.weight).at(rows.ids[n]);
  const void* x = rows.bf16 || w.kernel->quantized_input
                      ? static_cast<const void*>(rows.blocks + rows.at[n] + block_bytes(r, first, rows.bf16))
                      : rows.floats + (rows.first[n] + first) * w.cols;
  matmul(w, rows.bf16 ? w.kernel->fast : w.kernel->run, {w.data, x, count, w.rows, w.cols, begin, end, y, stride},
         call.own + layout(r).own_packed);
  for (int i = 0; i < count && !call.additions.empty(); ++i) {
    const int pair = rows.pairs[rows.first[n] + first + i];
    add_raised_row(stacks, stack, rows.ids[n], pair / used, pair % used, used, call, begin, end, y + i * stride);
  }
  if (stack.bias < 0) return;
  const float* bias = r.vector(stack.bias) + rows.ids[n] * w.rows + begin;
  for (int i = 0; i < count; ++i) r.kernels.add(y + i * stride, bias, y + i * stride, end - begin);
}

}  // namespace llamaq
