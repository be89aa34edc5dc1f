// What sampling does with a whole vocabulary of logits.
#include <algorithm>

#include "bindings/bind.h"
#include "engine/top_k.h"

namespace llamaq {

void bind_sampling(py::module_& m) {
  using py::arg;
  m.def(
      "top_k",
      [](const Array<float>& logits, int64_t k) {
        const std::vector<int32_t> ids = top_k(logits.data(), logits.size(), std::max<int64_t>(k, 0));
        return Array<int32_t>(static_cast<py::ssize_t>(ids.size()), ids.data());
      },
      arg("logits"), arg("k"), "Ids of the k greatest logits, in descending order; equal ones by id.");
  m.def(
      "sum_exp", [](const Array<float>& logits, double top) { return sum_exp(logits.data(), logits.size(), top); },
      arg("logits"), arg("top"), "Sum of exp(logit - top).");
}

}  // namespace llamaq
