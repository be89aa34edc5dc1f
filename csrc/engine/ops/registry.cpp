// Every op by its name: the one place to change beside the op's own file.
#include "core/error.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Kind {
  const char* name;
  std::unique_ptr<Op> (*parse)(Attributes&);
};

constexpr Kind kKinds[] = {
    {"act_experts", parse_act_experts},
    {"act_linear", parse_act_linear},
    {"add_given", parse_add_given},
    {"attention", parse_attention},
    {"bidirectional_attention", parse_bidirectional_attention},
    {"choose", parse_choose},
    {"clamp", parse_clamp},
    {"concat", parse_concat},
    {"cross_attention", parse_cross_attention},
    {"delta_net", parse_delta_net},
    {"embed", parse_embed},
    {"experts", parse_experts},
    {"gate", parse_gate},
    {"given", parse_given},
    {"glu_experts", parse_glu_experts},
    {"glu_linear", parse_glu_linear},
    {"head_linear", parse_head_linear},
    {"linear", parse_linear},
    {"merge_rows", parse_merge_rows},
    {"norm", parse_norm},
    {"positions", parse_positions},
    {"route", parse_route},
    {"select_rows", parse_select_rows},
    {"sigmoid_gate", parse_sigmoid_gate},
    {"short_conv", parse_short_conv},
    {"split_heads", parse_split_heads},
    {"ssm_scan", parse_ssm_scan},
    {"standardize", parse_standardize},
};

}  // namespace

std::unique_ptr<Op> make_op(Attributes attributes) {
  for (const Kind& kind : kKinds) {
    if (attributes.kind() != kind.name) continue;
    std::unique_ptr<Op> op = kind.parse(attributes);
    op->only_marked = attributes.integer("only_marked", 0) != 0;
    attributes.finish();
    return op;
  }
  throw Error("the executor has no op '" + attributes.kind() + "'");
}

}  // namespace llamaq
