// This file binds the searches of llamaq quantize.
#include <optional>

#include "bindings/bind.h"
#include "quantize/quantize.h"

namespace llamaq {

static py::object quantize(ThreadTeam& team, int from, int to, const Array<uint8_t>& src, int64_t cols,
                           const std::optional<Array<float>>& weights, Array<uint8_t> dst, const std::string& isa) {
  if (src.ndim() != 2 || dst.ndim() != 2 || dst.shape(0) != src.shape(0)) throw Error("src and dst are rows of bytes");
  const QuantizeArgs args{
      format_of(from),   format_of(to), src.shape(0), cols, src.data(), weights ? weights->data() : nullptr,
      dst.mutable_data()};
  if (src.shape(1) != row_bytes(args.from, cols) || dst.shape(1) != row_bytes(args.to, cols))
    throw Error("the rows of src and dst do not have " + std::to_string(cols) + " columns");
  if (weights && weights->size() != cols) throw Error("there is one weight for each column");
  int64_t bad;
  {
    py::gil_scoped_release unlocked;
    bad = quantize_rows(args, team, isa.c_str());
  }
  return bad < 0 ? py::none().cast<py::object>() : py::int_(bad).cast<py::object>();
}

void bind_quantize(py::module_& m) {
  using py::arg;
  m.def("quantize", &quantize, arg("team"), arg("from_format"), arg("to_format"), arg("src"), arg("cols"),
        arg("weights").none(true), arg("dst").noconvert(), arg("isa") = "",
        "Fills dst, rows of to_format, from src; the first row with a value that is no number, or None.");
}

}  // namespace llamaq
