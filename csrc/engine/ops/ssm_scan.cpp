// ssm_scan: Mamba-2's recurrence. Each head has a matrix of a sequence's past, its state, which every token decays and adds
// to (kernels/generic/ssm_scan.h). Workers share out the heads and go through the rows in order.
#include "engine/ops/ops.h"
#include "engine/ops/recurrence.h"

namespace llamaq {

namespace {

struct SsmScan final : Op {
  int in, steps, out, decay, bias, skip, layer, heads, groups, state_dim, head_dim;

  explicit SsmScan(Attributes& a)
      : in(a.integers("ins", 2)[0]),
        steps(a.integers("ins", 2)[1]),
        out(a.integers("outs", 1)[0]),
        decay(a.integer("decay")),
        bias(a.integer("bias")),
        skip(a.integer("skip")),
        layer(a.integer("layer")),
        heads(a.integer("heads")),
        groups(a.integer("groups")),
        state_dim(a.integer("state_dim")),
        head_dim(a.integer("head_dim")) {}

  int64_t inner() const { return int64_t{heads} * head_dim; }
  int64_t keys() const { return int64_t{groups} * state_dim; }
  HeadStates states() const { return {layer, heads, state_dim * head_dim}; }

  void check(Resources& r) override {
    if (groups < 1 || heads < 1 || heads % groups || state_dim < 1 || head_dim < 1)
      throw Error("a scan needs heads and dimensions");
    if (inner() + 2 * keys() > r.cols(in) || heads > r.cols(steps) || inner() > r.cols(out))
      throw Error("the scan is wider than a slot");
    for (const int vector : {decay, bias, skip}) r.check_vector(vector, heads);
    states().check(r);
  }

  Scratch scratch(const Resources& r) const override { return {0, HeadStates::latest_bytes(r)}; }

  void run(const Call& call) const override {
    for (int head; (head = call.worker.next_chunk(heads)) >= 0;) {
      const float** latest = states().begin(call, head);
      for (int i = 0; i < call.rows; ++i) token(call, i, head, latest);
    }
  }

 private:
  void token(const Call& call, int row, int head, const float** latest) const {
    const Resources& r = call.r;
    const int part = call.step.states.parts[row];
    const float* x = r.slot(in) + row * (inner() + 2 * keys());
    const float* b = x + inner() + int64_t{head / (heads / groups)} * state_dim;
    const float step = softplus(r.kernels, r.slot(steps)[int64_t{row} * heads + head] + r.vector(bias)[head]);
    const float left = left_of_past(r.kernels, step * r.vector(decay)[head]);
    float* const after = states().after(call.step, part, head);
    r.kernels.ssm_scan({latest[part], after, b, b + keys(), x + int64_t{head} * head_dim, left, step,
                        r.vector(skip)[head], state_dim, head_dim,
                        r.slot(out) + row * inner() + int64_t{head} * head_dim});
    latest[part] = after;
  }
};

}  // namespace

std::unique_ptr<Op> parse_ssm_scan(Attributes& a) { return std::make_unique<SsmScan>(a); }

}  // namespace llamaq
