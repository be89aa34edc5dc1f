// This file binds the thread team, the weights and the executor.
#include <atomic>
#include <optional>

#include "bindings/bind.h"
#include "engine/adapter.h"
#include "engine/cache_pages.h"
#include "engine/executor.h"
#include "measure/probe.h"
#include "measure/weight_error.h"
#include "kernels/dispatch.h"

namespace llamaq {

// This keeps alive what the C++ object only points at.
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

// A stack is rows [begin, end) of each of the tensor's `matrices` matrices.
static int stack(PyWeights& self, int id, int64_t matrices, int64_t rows, int64_t cols, int64_t begin, int64_t end,
                 const Array<uint8_t>& data, bool mapped) {
  const Format format = format_of(id);
  if (matrices <= 0 || rows <= 0 || data.size() % matrices || begin < 0 || begin >= end || end > rows)
    throw Error("a stack needs matrices of equal size, and rows that they have");
  checked(data, format, matrices * rows, cols);
  self.unpacked.push_back(data);
  const int64_t row = row_bytes(format, cols);
  return self.weights.stack(format, matrices, end - begin, cols, rows * row, data.data() + begin * row, mapped);
}

// For Ctrl-C the team asks now and then whether Python has a signal to handle.
static bool signalled() {
  py::gil_scoped_acquire locked;
  return PyErr_CheckSignals() != 0;
}

// Asks so, and tells Python how much is done; what Python raises ends the work.
static bool signalled_or_told(const py::object& progress, int64_t done) {
  if (signalled()) return true;
  py::gil_scoped_acquire locked;
  try {
    if (!progress.is_none()) progress(done);
    return false;
  } catch (py::error_already_set& error) {
    error.restore();
    return true;
  }
}

static void pack(PyWeights& self, ThreadTeam& team, const py::object& progress) {
  {
    py::gil_scoped_release unlocked;
    const auto interrupted = [&](int64_t done) { return signalled_or_told(progress, done); };
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

// An op comes as its kind and a dict of attributes: numbers, strings and lists of whole numbers.
static std::unique_ptr<Op> op_of(const py::tuple& t) {
  std::map<std::string, Attributes::Value> values;
  for (const auto& item : t[1].cast<py::dict>()) {
    const std::string name = item.first.cast<std::string>();
    if (py::isinstance<py::int_>(item.second))
      values[name] = item.second.cast<int64_t>();
    else if (py::isinstance<py::float_>(item.second))
      values[name] = item.second.cast<double>();
    else if (py::isinstance<py::str>(item.second))
      values[name] = item.second.cast<std::string>();
    else
      values[name] = item.second.cast<std::vector<int64_t>>();
  }
  return make_op(Attributes(t[0].cast<std::string>(), std::move(values)));
}

// An adapter points at the weights of the model.
struct PyAdapter {
  py::object weights;
  Adapter adapter;
};

// Factors come as the number of the model's weight, formats and data of A and B, the rank and the scale; directions as the
// numbers of an op and of a slot, and the values.
static std::unique_ptr<PyAdapter> make_adapter(const py::object& weights, const py::list& factors,
                                               const py::list& directions) {
  const Weights& model = weights.cast<PyWeights&>().weights;
  auto made = std::unique_ptr<PyAdapter>(new PyAdapter{weights, Adapter(model)});
  std::vector<Array<uint8_t>> kept;
  for (const py::handle item : factors) {
    const auto t = item.cast<py::tuple>();
    const int weight = t[0].cast<int>();
    const auto rank = t[1].cast<int64_t>();
    const Format a_format = format_of(t[2].cast<int>()), b_format = format_of(t[4].cast<int>());
    const auto a = t[3].cast<Array<uint8_t>>(), b = t[5].cast<Array<uint8_t>>();
    if (weight < 0 || weight >= static_cast<int>(model.all().size())) throw Error("the model has no such weight");
    const Weight& w = model.all()[static_cast<size_t>(weight)];
    checked(a, a_format, w.kernel ? w.matrices * rank : w.rows, w.kernel ? w.cols : rank);
    checked(b, b_format, w.kernel ? w.matrices * w.rows : w.cols, rank);
    made->adapter.add(weight, rank, a_format, a.data(), b_format, b.data(), t[6].cast<double>());
    kept.push_back(a), kept.push_back(b);
  }
  for (const py::handle item : directions) {
    const auto t = item.cast<py::tuple>();
    const auto values = t[2].cast<Array<float>>();
    made->adapter.add_direction(t[0].cast<int>(), t[1].cast<int>(), values.data(), values.size());
  }
  {
    py::gil_scoped_release unlocked;
    made->adapter.pack();
  }
  return made;
}

// Asks one forward pass to stop; set by any thread, before it begins or while it runs.
struct StopFlag {
  std::atomic<bool> set{false};
};

struct PyExecutor {
  py::object weights, team;  // the executor points at these, so they are kept alive
  Executor executor;
};

static std::unique_ptr<PyExecutor> make_executor(const py::list& ops, std::vector<int> slot_cols, int out,
                                                 const py::list& ropes, const py::list& caches, std::vector<int> states,
                                                 const py::object& weights, const py::object& team, int max_rows,
                                                 bool fast) {
  Plan plan;
  for (const py::handle op : ops) plan.ops.push_back(op_of(op.cast<py::tuple>()));
  plan.slot_cols = std::move(slot_cols);
  plan.out = out;
  plan.states = std::move(states);
  for (const py::handle r : ropes) {
    const auto t = r.cast<py::tuple>();
    const auto f = t[0].cast<Array<double>>();
    plan.ropes.push_back(
        {{f.data(), f.data() + f.size()}, t[1].cast<double>(), t[2].cast<bool>(), t[3].cast<std::vector<int>>()});
    for (const int axis : plan.ropes.back().axes)
      if (axis < 0 || axis > 2) throw Error("a rope has three axes, got " + std::to_string(axis));
    if (const size_t n = plan.ropes.back().axes.size(); n && n != static_cast<size_t>(f.size()))
      throw Error("a rope needs an axis for each pair");
  }
  for (const py::handle group : caches) {
    plan.caches.emplace_back();
    for (const py::handle layer : group.cast<py::list>()) {
      const auto t = layer.cast<py::tuple>();
      plan.caches.back().push_back(
          {t[0].cast<int>(), t[1].cast<int>(), t[2].cast<int>(), t[3].cast<int>(), t[4].cast<int>()});
    }
  }
  return std::unique_ptr<PyExecutor>(new PyExecutor{
      weights, team,
      Executor(std::move(plan), weights.cast<PyWeights&>().weights, team.cast<ThreadTeam&>(), max_rows, fast)});
}

// The memory of one cache group, uint8, and the page table of the step's sequences, int32 (sequences, pages).
static CachePages cache_pages(const py::tuple& t, const std::vector<CacheLayer>& layers, Format type,
                              py::ssize_t sequences) {
  auto data = t[0].cast<py::array_t<uint8_t>>();
  const auto table = t[1].cast<py::array_t<int32_t>>();
  int64_t bytes = 0;  // bytes of a page in all layers
  for (const CacheLayer& layer : layers) bytes += page_bytes(layer.head_dim, layer.value_dim, type) * layer.kv_heads;
  if (!(data.flags() & table.flags() & py::array::c_style) || data.size() % bytes)
    throw Error("the cache is not a whole number of pages");
  if (table.ndim() != 2 || table.shape(0) != sequences) throw Error("each cache needs the pages of all sequences");
  CachePages pages;
  pages.n_pages = static_cast<int>(data.size() / bytes);
  pages.table = table.data(), pages.pages_per_sequence = static_cast<int>(table.shape(1));
  uint8_t* at = data.mutable_data();
  for (const CacheLayer& layer : layers) {
    pages.layers.push_back(at);
    at += page_bytes(layer.head_dim, layer.value_dim, type) * layer.kv_heads * pages.n_pages;
  }
  return pages;
}

// The memory of the states, uint8, the slots of the step's parts before and after them, and the part of each row, int32.
static States states_of(const py::tuple& t, const std::vector<int>& layers, py::ssize_t rows) {
  auto data = t[0].cast<py::array_t<uint8_t>>();
  const auto before = t[1].cast<py::array_t<int32_t>>(), after = t[2].cast<py::array_t<int32_t>>();
  const auto parts = t[3].cast<py::array_t<int32_t>>();
  int64_t bytes = 0;
  for (const int floats : layers) bytes += int64_t{4} * floats;
  if (!(data.flags() & before.flags() & after.flags() & parts.flags() & py::array::c_style) || !bytes ||
      data.size() % bytes)
    throw Error("the states are not a whole number of slots");
  if (before.size() != after.size() || parts.size() != rows) throw Error("each part of a step needs its states");
  States states;
  states.n_slots = static_cast<int>(data.size() / bytes);
  states.n_parts = static_cast<int>(before.size());
  states.before = before.data(), states.after = after.data(), states.parts = parts.data();
  auto* at = reinterpret_cast<float*>(data.mutable_data());
  for (const int floats : layers) {
    states.layers.push_back(at);
    at += int64_t{floats} * states.n_slots;
  }
  return states;
}

// Keys and values of a picture, uint8 (layers, pages, KV heads, bytes of a page), the number of its states and the format.
static Picture picture_of(const py::tuple& t) {
  const auto pages = t[0].cast<py::array_t<uint8_t>>();
  if (!(pages.flags() & py::array::c_style) || pages.ndim() != 4) throw Error("a picture has layers, pages and heads");
  const auto side = [&](int i) { return static_cast<int>(pages.shape(i)); };
  return {pages.data(), side(0), side(1), side(2), pages.shape(3), t[1].cast<int>(), format_of(t[2].cast<int>())};
}

static void forward(PyExecutor& self, const Array<int32_t>& tokens, const Array<int32_t>& positions,
                    const Array<int32_t>& sequences, int n_sequences, const py::list& caches, int type,
                    const py::object& states, const Array<int32_t>& selected, py::array_t<float> logits,
                    const StopFlag* stop, const py::list& captures, const py::list& adaptations,
                    const Array<int32_t>& adapted, const std::optional<Array<int32_t>>& last_seen,
                    const std::optional<Array<float>>& given, const std::optional<Array<int32_t>>& places,
                    const py::list& pictures, const std::optional<Array<int32_t>>& seen,
                    const std::optional<Array<uint8_t>>& marked, const py::object& progress) {
  const Resources& r = self.executor.resources();
  if (positions.size() != tokens.size() || sequences.size() != tokens.size() || caches.size() != r.caches.size())
    throw Error("tokens, positions and sequences need one length, and each cache of the plan its pages");
  Step step;
  step.rows = static_cast<int>(tokens.size());
  step.tokens = tokens.data(), step.positions = positions.data(), step.sequences = sequences.data();
  step.n_sequences = n_sequences;
  if (last_seen && last_seen->size() != tokens.size()) throw Error("last_seen needs the length of tokens");
  step.last_seen = last_seen ? last_seen->data() : positions.data();
  if (places && (places->ndim() != 2 || places->shape(0) != tokens.size() || places->shape(1) != 3))
    throw Error("a step needs three places for each row");
  step.places = places ? places->data() : nullptr;
  if (given) {
    if (given->ndim() != 2) throw Error("rows given in the place of tokens need two dimensions");
    step.given = given->data();
    step.n_given = static_cast<int>(given->shape(0)), step.given_cols = static_cast<int>(given->shape(1));
  }
  for (const py::handle picture : pictures) {
    step.pictures.push_back(picture_of(picture.cast<py::tuple>()));
    while (static_cast<int>(step.page_numbers.size()) < step.pictures.back().n_pages)
      step.page_numbers.push_back(static_cast<int32_t>(step.page_numbers.size()));
  }
  if ((seen && seen->size() != 2 * tokens.size()) || (marked && marked->size() != tokens.size()))
    throw Error("seen needs two numbers, and marked one, for each token");
  step.seen = seen ? seen->data() : nullptr, step.marked = marked ? marked->data() : nullptr;
  step.selected = selected.data(), step.n_selected = static_cast<int>(selected.size());
  step.cache_type = format_of(type);
  for (size_t i = 0; i < caches.size(); ++i)
    step.caches.push_back(cache_pages(caches[i].cast<py::tuple>(), r.caches[i], step.cache_type, n_sequences));
  if (!states.is_none()) step.states = states_of(states.cast<py::tuple>(), r.states, tokens.size());
  const int64_t vocabulary = self.executor.logits_cols();
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
  for (const py::handle several : adaptations) {
    step.adaptations.emplace_back();
    for (const py::handle one : several.cast<py::list>()) {
      const auto t = one.cast<py::tuple>();
      step.adaptations.back().push_back({&t[0].cast<PyAdapter&>().adapter, t[1].cast<double>()});
    }
  }
  if (adaptations.size() && adapted.size() != n_sequences) throw Error("each sequence needs its adapters, or -1");
  if (adaptations.size()) step.adapted = adapted.data();
  py::gil_scoped_release unlocked;
  // With a flag nobody asks Python for signals: that would wait for the interpreter in the middle of the pass.
  if (stop)
    self.executor.forward(step, [stop] { return stop->set.load(std::memory_order_relaxed); });
  else
    self.executor.forward(step, [&] { return signalled_or_told(progress, self.executor.done()); });
}

static py::tuple squares(const PyExecutor& self, int op) {
  const Squares& found = self.executor.squares(op);
  const auto matrices = static_cast<py::ssize_t>(found.rows.size());
  const auto cols = matrices ? static_cast<py::ssize_t>(found.sums.size()) / matrices : 0;
  return py::make_tuple(Array<int64_t>(matrices, found.rows.data()),
                        Array<double>({matrices, cols}, found.sums.data()));
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
        "Bytes that all threads read and int8 operations that they do in a second, at best (measure/probe.h).");
  py::class_<ThreadTeam, std::unique_ptr<ThreadTeam, TeamDeleter>>(m, "ThreadTeam")
      .def(py::init<int, bool>(), arg("threads"), arg("spin") = true)
      .def_property_readonly("size", &ThreadTeam::size);
  py::class_<StopFlag>(m, "StopFlag")
      .def(py::init<>())
      .def("set", [](StopFlag& self, bool on) { self.set.store(on, std::memory_order_relaxed); }, arg("on") = true);
  py::class_<PyWeights>(m, "Weights")
      .def(py::init<>())
      .def("matrix", &matrix, arg("format"), arg("rows"), arg("cols"), arg("data"), arg("mapped") = false)
      .def("pack", &pack, arg("team"), arg("progress") = py::none(),
           "Packs the matrices that are not packed yet; `progress` gets the bytes done now and then.")
      .def("stack", &stack, arg("format"), arg("matrices"), arg("rows"), arg("cols"), arg("begin"), arg("end"),
           arg("data"), arg("mapped") = false, "Rows begin .. end of each matrix of a tensor of three dimensions.")
      .def("raw", &raw, arg("format"), arg("rows"), arg("cols"), arg("data"))
      .def(
          "vector",
          [](PyWeights& self, const Array<float>& data) { return self.weights.vector(data.data(), data.size()); },
          arg("data"))
      .def_property_readonly("isa", [](const PyWeights& self) { return std::string(self.weights.table().isa); });
  py::class_<PyAdapter>(m, "Adapter")
      .def(py::init(&make_adapter), arg("weights"), arg("factors"), arg("directions") = py::list());
  py::class_<PyExecutor>(m, "Executor")
      .def(py::init(&make_executor), arg("ops"), arg("slot_cols"), arg("out"), arg("ropes"), arg("caches"),
           arg("states"), arg("weights"), arg("team"), arg("max_rows"), arg("fast") = false)
      .def("forward", &forward, arg("tokens"), arg("positions"), arg("sequences"), arg("n_sequences"), arg("caches"),
           arg("cache_type"), arg("states"), arg("selected"), arg("logits"), arg("stop") = nullptr,
           arg("captures") = py::list(), arg("adaptations") = py::list(), arg("adapted") = Array<int32_t>(0),
           arg("last_seen") = py::none(), arg("given") = py::none(), arg("places") = py::none(),
           arg("pictures") = py::list(), arg("seen") = py::none(), arg("marked") = py::none(),
           arg("progress") = py::none(), "Without `stop`, `progress` gets the ops that are done now and then.")
      .def(
          "collect_squares", [](PyExecutor& self, bool on) { self.executor.collect_squares(on); }, arg("on"))
      .def("squares", &squares, arg("op"),
           "Rows (matrices,), and sums of squares (matrices, columns), that the op of that index has read.")
      .def_property_readonly("scratch_bytes", [](const PyExecutor& self) { return self.executor.scratch_bytes(); });
}

}  // namespace llamaq
