// What each file of this folder gives to the registry.
#pragma once
#include "engine/op.h"

namespace llamaq {

std::unique_ptr<Op> parse_attention(Attributes& a);
std::unique_ptr<Op> parse_embed(Attributes& a);
std::unique_ptr<Op> parse_glu_linear(Attributes& a);
std::unique_ptr<Op> parse_linear(Attributes& a);
std::unique_ptr<Op> parse_rms_norm(Attributes& a);
std::unique_ptr<Op> parse_select_rows(Attributes& a);
std::unique_ptr<Op> parse_short_conv(Attributes& a);

}  // namespace llamaq
