// delta_net: gated delta rule. Each head has a matrix of a sequence's past, its state, which every token decays and corrects
// (kernels/generic/delta_net.h). First queries and keys get their lengths; then workers share out the heads and go through
// the rows in order.
#include <algorithm>

#include "engine/ops/ops.h"
#include "engine/ops/recurrence.h"
#include "engine/row_norm.h"

namespace llamaq {

namespace {

constexpr double kEps = 1e-6;  // the lengths of queries and keys are kept from zero by it
constexpr int kColumns = 64;   // columns of a state at a time: 128 rows of them are 32 KB

struct DeltaNet final : Op {
  int in, gates, out, decay, step, norm, layer, heads, key_heads, key_dim, value_dim;
  float eps;
  bool grouped;  // heads that share a key head stand together, and so do their gates

  explicit DeltaNet(Attributes& a)
      : in(a.integers("ins", 2)[0]),
        gates(a.integers("ins", 2)[1]),
        out(a.integers("outs", 1)[0]),
        decay(a.integer("decay")),
        step(a.integer("step")),
        norm(a.integer("norm")),
        layer(a.integer("layer")),
        heads(a.integer("heads")),
        key_heads(a.integer("key_heads")),
        key_dim(a.integer("key_dim")),
        value_dim(a.integer("value_dim")),
        eps(a.number("eps")),
        grouped(a.integer("grouped") != 0) {}

  int64_t keys() const { return int64_t{key_heads} * key_dim; }
  int64_t values() const { return int64_t{heads} * value_dim; }
  HeadStates states() const { return {layer, heads, key_dim * value_dim}; }

  void check(Resources& r) override {
    if (key_heads < 1 || heads < 1 || heads % key_heads || key_dim < 1 || value_dim < 1)
      throw Error("a delta net needs heads and dimensions");
    if (2 * keys() + values() > r.cols(in) || 2 * heads > r.cols(gates) || values() > r.cols(out))
      throw Error("the delta net is wider than a slot");
    r.check_vector(decay, heads);
    r.check_vector(step, heads);
    r.check_vector(norm, value_dim);
    states().check(r);
  }

  // Behind what `begin` takes, a worker has columns of a state and the gates of the rows.
  int64_t gates_at(const Resources& r) const {
    return HeadStates::latest_bytes(r) + Scratch::lines(4 * key_dim * std::min(value_dim, kColumns));
  }
  Scratch scratch(const Resources& r) const override {
    return {Scratch::lines(4 * int64_t{r.max_rows} * 2 * keys()),
            gates_at(r) + Scratch::lines(8 * int64_t{r.max_rows})};
  }

  void run(const Call& call) const override {
    const int* const parts = call.step.states.parts;
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) measure(call, i);
    call.worker.sync();
    for (int head; (head = call.worker.next_chunk(heads)) >= 0;) {
      const float** latest = states().begin(call, head);
      for (int first = 0, last = 0; first < call.rows; first = last) {
        while (last < call.rows && parts[last] == parts[first]) ++last;
        tokens(call, first, last, head, latest[parts[first]]);
      }
    }
  }

 private:
  float* unit(const Call& call, int row) const { return reinterpret_cast<float*>(call.shared) + row * 2 * keys(); }

  // The norm divides by the root of the mean square: by the length over the root of the dimension.
  void measure(const Call& call, int row) const {
    const Resources& r = call.r;
    const float* x = r.slot(in) + row * (2 * keys() + values());
    float* y = unit(call, row);
    const float tiny = static_cast<float>(kEps / key_dim);
    for (int64_t at = 0; at < 2 * keys(); at += key_dim) {
      r.kernels.rms_norm(x + at, nullptr, tiny, key_dim, y + at);
      const double scale = at < keys() ? 1.0 / key_dim : 1.0 / sqrt(static_cast<double>(key_dim));
      r.kernels.scale(y + at, static_cast<float>(scale), key_dim);
    }
  }

  // Rows first .. last - 1, of one part. Several go through some columns of the state at a time, which lie side by
  // side meanwhile and stay in the nearest cache.
  void tokens(const Call& call, int first, int last, int head, const float*& latest) const {
    const Resources& r = call.r;
    const int shared = heads / key_heads, key = grouped ? head / shared : head % key_heads;
    const int b = grouped ? 2 * key * shared + head % shared : head, a = b + (grouped ? shared : heads);
    float* const scales = reinterpret_cast<float*>(call.own + gates_at(r));
    float* const after = states().after(call.step, call.step.states.parts[first], head);
    const auto y = [&](int row) { return r.slot(out) + row * values() + int64_t{head} * value_dim; };
    const auto token = [&](int row, const float* before, float* to, int64_t column, int64_t columns) {
      const float *q = unit(call, row) + int64_t{key} * key_dim, *k = q + keys();
      const float* v = r.slot(in) + row * (2 * keys() + values()) + 2 * keys() + int64_t{head} * value_dim + column;
      const float* scale = scales + 2 * (row - first);
      r.kernels.delta_net({before, to, q, k, v, scale[0], scale[1], key_dim, columns, y(row) + column});
    };
    for (int row = first; row < last; ++row) {
      const float* g = r.slot(gates) + int64_t{row} * 2 * heads;
      scales[2 * (row - first)] = left(r, g[a], head);
      scales[2 * (row - first) + 1] = strength(r, g[b]);
    }
    if (last - first == 1) token(first, latest, after, 0, value_dim);
    float* const part = reinterpret_cast<float*>(call.own + HeadStates::latest_bytes(r));
    for (int column = 0; last - first > 1 && column < value_dim; column += kColumns) {
      const int64_t columns = std::min(kColumns, value_dim - column);
      copy_columns(latest + column, value_dim, part, columns, columns);
      for (int row = first; row < last; ++row) token(row, part, part, column, columns);
      copy_columns(part, columns, after + column, value_dim, columns);
    }
    for (int row = first; row < last; ++row) r.kernels.rms_norm(y(row), r.vector(norm), eps, value_dim, y(row));
    latest = after;
  }

  void copy_columns(const float* from, int64_t from_stride, float* to, int64_t to_stride, int64_t columns) const {
    for (int row = 0; row < key_dim; ++row) std::copy_n(from + row * from_stride, columns, to + row * to_stride);
  }

  // How much of the correction is made: the sigmoid of the gate.
  static float strength(const Resources& r, float gate) {
    const float e = exp_of(r.kernels, -fabsf(gate));
    return (gate >= 0 ? 1.0f : e) / (1.0f + e);
  }

  // What is left of the past: exp(min(0, decay * softplus(gate + step))).
  float left(const Resources& r, float gate, int head) const {
    return left_of_past(r.kernels, softplus(r.kernels, gate + r.vector(step)[head]) * r.vector(decay)[head]);
  }
};

}  // namespace

std::unique_ptr<Op> parse_delta_net(Attributes& a) { return std::make_unique<DeltaNet>(a); }

}  // namespace llamaq
