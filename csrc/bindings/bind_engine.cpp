// Thread team, weights and executor.
#include <atomic>

#include "bindings/bind.h"
#include "engine/cache_pages.h"
#include "engine/executor.h"
#include "engine/probe.h"
#include "engine/weight_error.h"
#include "kernels/dispatch.h"

namespace llamaq {

// Keeps alive what the C++ object only points at.
struct PyWeights {
  Weights weights{kernel_table()};
  std::vector<py::object> kept, unpacked;
};

static int checked(const Array<uint8_t>& data, Format format, int64_t rows, int64_t cols) {
  if (rows <= 0 || data.size() / rows != row_bytes(format, cols) || data.size() % rows)
    throw Error("the data do not have the bytes of " + std::to_string(rows) + " x " + std::to_string(cols));
  return 0;
}

static int matrix(PyWeights& self, int id, int64_t rows, int64_t cols, const Array<uint8_t>& data, bool mapped) {
  const Format format = format_of(id);
  checked(data, format, rows, cols);
  self.unpacked.push_back(data);
  return self.weights.matrix(format, rows, cols, data.data(), mapped);
}

// Ctrl-C: the team asks now and then whether Python has a signal to handle.
static bool signalled() {
  py::gil_scoped_acquire locked;
  return PyErr_CheckSignals() != 0;
}

static void pack(PyWeights& self, ThreadTeam& team, const py::object& progress) {
  const auto interrupted = [&](int64_t done) {
    if (signalled()) return true;
    py::gil_scoped_acquire locked;
    try {
      if (!progress.is_none()) progress(done);
      return false;
    } catch (py::error_already_set& error) {
      error.restore();
      return true;
    }
  };
  {
    py::gil_scoped_release unlocked;
    if (!self.weights.pack(team, interrupted)) throw Cancelled();
  }
  self.unpacked.clear();
}

static int raw(PyWeights& self, int id, int64_t rows, int64_t cols, const Array<uint8_t>& data) {
  const Format format = format_of(id);
  checked(data, format, rows, cols);
  self.kept.push_back(data);
  return self.weights.raw(format, rows, cols, data.data());
}

static Projection projection(const py::tuple& t) { return {t[0].cast<int>(), t[1].cast<int>(), t[2].cast<int>()}; }

static Norm norm(const py::tuple& t) { return {t[0].cast<int>(), t[1].cast<float>()}; }

// Ops come as (kind, ...) tuples of numbers, in the order of the structs of engine/plan.h.
static Op op_of(const py::tuple& t) {
  const auto i = [&](size_t at) { return t[at].cast<int>(); };
  const std::string kind = t[0].cast<std::string>();
  if (kind == "embed") return EmbedOp{i(1), i(2), t[3].cast<float>()};
  if (kind == "rms_norm") return RmsNormOp{i(1), i(2), i(3), t[4].cast<float>()};
  if (kind == "linear") {
    LinearOp op{i(1), norm(t[2]), {}, i(4)};
    for (const py::handle p : t[3]) op.projections.push_back(projection(p.cast<py::tuple>()));
    return op;
  }
  if (kind == "glu_linear") return GluLinearOp{i(1), norm(t[2]), projection(t[3]), projection(t[4])};
  if (kind == "attention")
    return AttentionOp{i(1), i(2), i(3), i(4), i(5), i(6), i(7), i(8), t[9].cast<float>(), i(10), i(11), i(12)};
  if (kind == "select_rows") return SelectRowsOp{i(1), i(2), i(3)};
  throw Error("the executor has no op '" + kind + "'");
}

// Asks one forward pass to stop; set by any thread, before it begins or while it runs.
struct StopFlag {
  std::atomic<bool> set{false};
};

struct PyExecutor {
  py::object weights, team;  // kept alive
  Executor executor;
};

static std::unique_ptr<PyExecutor> make_executor(const py::list& ops, std::vector<int> slot_cols, const py::list& ropes,
                                                 const py::tuple& cache, const py::object& weights,
                                                 const py::object& team, int max_rows, bool fast) {
  Plan plan;
  for (const py::handle op : ops) plan.ops.push_back(op_of(op.cast<py::tuple>()));
  plan.slot_cols = std::move(slot_cols);
  for (const py::handle r : ropes) {
    const auto t = r.cast<py::tuple>();
    const auto f = t[0].cast<Array<double>>();
    plan.ropes.push_back({{f.data(), f.data() + f.size()}, t[1].cast<double>(), t[2].cast<bool>()});
  }
  plan.layers = cache[0].cast<int>(), plan.kv_heads = cache[1].cast<int>(), plan.head_dim = cache[2].cast<int>();
  return std::unique_ptr<PyExecutor>(new PyExecutor{
      weights, team,
      Executor(std::move(plan), weights.cast<PyWeights&>().weights, team.cast<ThreadTeam&>(), max_rows, fast)});
}

static void forward(PyExecutor& self, const Array<int32_t>& tokens, const Array<int32_t>& positions,
                    const Array<int32_t>& sequences, const Array<int32_t>& pages, Array<uint8_t> cache, int type,
                    const Array<int32_t>& selected, py::array_t<float> logits, int op_limit, const StopFlag* stop,
                    const py::list& captures) {
  const Plan& plan = self.executor.plan();
  if (positions.size() != tokens.size() || sequences.size() != tokens.size() || pages.ndim() != 2)
    throw Error("tokens, positions and sequences need one length, pages two dimensions");
  Step step;
  step.rows = static_cast<int>(tokens.size());
  step.tokens = tokens.data(), step.positions = positions.data(), step.sequences = sequences.data();
  step.pages = pages.data();
  step.n_sequences = static_cast<int>(pages.shape(0)), step.pages_per_sequence = static_cast<int>(pages.shape(1));
  step.selected = selected.data(), step.n_selected = static_cast<int>(selected.size());
  const int64_t page = page_bytes(plan.head_dim, format_of(type)) * plan.kv_heads * plan.layers;
  step.cache = cache.mutable_data(), step.n_pages = static_cast<int>(cache.size() / page),
  step.cache_type = format_of(type);
  if (cache.size() % page) throw Error("the cache is not a whole number of pages");
  const auto& last = std::get<LinearOp>(plan.ops.back()).projections[0];
  const int64_t vocabulary = self.weights.cast<PyWeights&>().weights.all()[static_cast<size_t>(last.weight)].rows;
  if (!(logits.flags() & py::array::c_style) || logits.size() != vocabulary * step.n_selected)
    throw Error("logits need room for " + std::to_string(step.n_selected) + " x " + std::to_string(vocabulary));
  step.logits = logits.mutable_data();
  for (const py::handle item : captures) {
    const auto c = item.cast<py::tuple>();
    auto out = c[2].cast<py::array_t<float>>();
    if (!(out.flags() & py::array::c_style) || out.ndim() != 2 || out.shape(0) != tokens.size())
      throw Error("a capture needs room for " + std::to_string(tokens.size()) + " rows");
    step.captures.push_back({c[0].cast<int>(), c[1].cast<int>(), static_cast<int>(out.shape(1)), out.mutable_data()});
  }
  py::gil_scoped_release unlocked;
  // With a flag nobody asks Python for signals, which would wait for the interpreter in the middle of the pass.
  if (stop)
    self.executor.forward(step, [stop] { return stop->set.load(std::memory_order_relaxed); }, op_limit);
  else
    self.executor.forward(step, signalled, op_limit);
}

static Array<float> slot(const PyExecutor& self, int index, py::ssize_t rows, py::ssize_t cols) {
  const std::vector<int>& widths = self.executor.plan().slot_cols;
  if (index < 0 || static_cast<size_t>(index) >= widths.size() || cols > widths[static_cast<size_t>(index)])
    throw Error("no such slot");
  Array<float> out({rows, cols});
  std::copy_n(self.executor.slot(index), rows * cols, out.mutable_data());
  return out;
}

static py::tuple squares(const PyExecutor& self, int op) {
  const Squares& found = self.executor.squares(op);
  return py::make_tuple(found.rows, Array<double>(static_cast<py::ssize_t>(found.sums.size()), found.sums.data()));
}

static py::tuple probe_machine(ThreadTeam& team, int64_t bytes, const std::string& isa) {
  const KernelTable& kernels = kernel_table(isa.c_str());
  MachineLimits limits;
  {
    py::gil_scoped_release unlocked;
    limits = probe(kernels, team, bytes);
  }
  return py::make_tuple(limits.read_bytes, limits.int8_ops);
}

static py::tuple compare_weights(ThreadTeam& team, int base_id, const Array<uint8_t>& base, int other_id,
                                 const Array<uint8_t>& other) {
  const auto count = [](int id, const Array<uint8_t>& data) {
    const FormatInfo& info = *format_info(static_cast<int>(format_of(id)));
    if (data.size() % info.block_bytes) throw Error("the data are not whole blocks");
    return data.size() / info.block_bytes * info.block;
  };
  const int64_t n = count(base_id, base);
  if (n != count(other_id, other)) throw Error("the data are not of one number of weights");
  WeightError found;
  {
    py::gil_scoped_release unlocked;
    found = weight_error(kernel_table(), team, format_of(base_id), base.data(), format_of(other_id), other.data(), n,
                         signalled);
  }
  return py::make_tuple(found.base_squares, found.error_squares);
}

void bind_engine(py::module_& m) {
  using py::arg;
  m.def("weight_error", &compare_weights, arg("team"), arg("base_format"), arg("base"), arg("other_format"),
        arg("other"), "Sums of squares of the base's weights, and of what the other's differ by.");
  m.def("probe", &probe_machine, arg("team"), arg("bytes"), arg("isa") = "",
        "Bytes that all threads read and int8 operations that they do in a second, at best (engine/probe.h).");
  py::class_<ThreadTeam, std::unique_ptr<ThreadTeam, TeamDeleter>>(m, "ThreadTeam")
      .def(py::init<int, bool>(), arg("threads"), arg("spin") = true)
      .def_property_readonly("size", &ThreadTeam::size)
      .def("cancel", &ThreadTeam::cancel, "Stops the forward pass that runs, from any thread.");
  py::class_<StopFlag>(m, "StopFlag")
      .def(py::init<>())
      .def("set", [](StopFlag& self, bool on) { self.set.store(on, std::memory_order_relaxed); }, arg("on") = true);
  py::class_<PyWeights>(m, "Weights")
      .def(py::init<>())
      .def("matrix", &matrix, arg("format"), arg("rows"), arg("cols"), arg("data"), arg("mapped") = false)
      .def("pack", &pack, arg("team"), arg("progress") = py::none(),
           "Packs the matrices that are not packed yet; `progress` gets the bytes done now and then.")
      .def("raw", &raw, arg("format"), arg("rows"), arg("cols"), arg("data"))
      .def(
          "vector",
          [](PyWeights& self, const Array<float>& data) { return self.weights.vector(data.data(), data.size()); },
          arg("data"))
      .def_property_readonly("isa", [](const PyWeights& self) { return std::string(self.weights.table().isa); });
  py::class_<PyExecutor>(m, "Executor")
      .def(py::init(&make_executor), arg("ops"), arg("slot_cols"), arg("ropes"), arg("cache"), arg("weights"),
           arg("team"), arg("max_rows"), arg("fast") = false)
      .def("forward", &forward, arg("tokens"), arg("positions"), arg("sequences"), arg("pages"), arg("cache"),
           arg("cache_type"), arg("selected"), arg("logits"), arg("op_limit") = -1, arg("stop") = nullptr,
           arg("captures") = py::list())
      .def("slot", &slot, arg("index"), arg("rows"), arg("cols"))
      .def(
          "collect_squares", [](PyExecutor& self, bool on) { self.executor.collect_squares(on); }, arg("on"))
      .def("squares", &squares, arg("op"), "Rows, and sums of squares by column, that the op of that index has read.")
      .def_property_readonly("scratch_bytes", [](const PyExecutor& self) { return self.executor.scratch_bytes(); });
}

}  // namespace llamaq
