// What each file of this folder gives to the registry.
#pragma once
#include "engine/op.h"

namespace llamaq {

std::unique_ptr<Op> parse_act_experts(Attributes& a);
std::unique_ptr<Op> parse_act_linear(Attributes& a);
std::unique_ptr<Op> parse_add_given(Attributes& a);
std::unique_ptr<Op> parse_attention(Attributes& a);
std::unique_ptr<Op> parse_bidirectional_attention(Attributes& a);
std::unique_ptr<Op> parse_choose(Attributes& a);
std::unique_ptr<Op> parse_clamp(Attributes& a);
std::unique_ptr<Op> parse_concat(Attributes& a);
std::unique_ptr<Op> parse_cross_attention(Attributes& a);
std::unique_ptr<Op> parse_delta_net(Attributes& a);
std::unique_ptr<Op> parse_embed(Attributes& a);
std::unique_ptr<Op> parse_experts(Attributes& a);
std::unique_ptr<Op> parse_gate(Attributes& a);
std::unique_ptr<Op> parse_given(Attributes& a);
std::unique_ptr<Op> parse_glu_experts(Attributes& a);
std::unique_ptr<Op> parse_glu_linear(Attributes& a);
std::unique_ptr<Op> parse_head_linear(Attributes& a);
std::unique_ptr<Op> parse_linear(Attributes& a);
std::unique_ptr<Op> parse_merge_rows(Attributes& a);
std::unique_ptr<Op> parse_norm(Attributes& a);
std::unique_ptr<Op> parse_positions(Attributes& a);
std::unique_ptr<Op> parse_route(Attributes& a);
std::unique_ptr<Op> parse_select_rows(Attributes& a);
std::unique_ptr<Op> parse_short_conv(Attributes& a);
std::unique_ptr<Op> parse_sigmoid_gate(Attributes& a);
std::unique_ptr<Op> parse_split_heads(Attributes& a);
std::unique_ptr<Op> parse_ssm_scan(Attributes& a);
std::unique_ptr<Op> parse_standardize(Attributes& a);

}  // namespace llamaq
