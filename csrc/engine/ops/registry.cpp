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
    {"attention", parse_attention},   {"embed", parse_embed},       {"glu_linear", parse_glu_linear},
    {"linear", parse_linear},         {"rms_norm", parse_rms_norm}, {"select_rows", parse_select_rows},
    {"short_conv", parse_short_conv},
};

}  // namespace

std::unique_ptr<Op> make_op(Attributes attributes) {
  for (const Kind& kind : kKinds) {
    if (attributes.kind() != kind.name) continue;
    std::unique_ptr<Op> op = kind.parse(attributes);
    attributes.finish();
    return op;
  }
  throw Error("the executor has no op '" + attributes.kind() + "'");
}

}  // namespace llamaq
