// This file binds what sampling does with a whole vocabulary of logits.
#include <algorithm>

#include "bindings/bind.h"
#include "sampling/candidates.h"
#include "sampling/elementary.h"
#include "sampling/repeats.h"
#include "sampling/top_k.h"

namespace llamaq {

using Unlocked = py::call_guard<py::gil_scoped_release>;

template <class T>
static Array<T> array_of(const std::vector<T>& x) {
  return Array<T>(static_cast<py::ssize_t>(x.size()), x.data());
}

// Candidates that keep the array whose logits they look at.
struct HeldCandidates : Candidates {
  using Candidates::Candidates;
  Array<float> held;
};

static float load(HeldCandidates& self, const Array<float>& logits) {
  self.held = logits;
  const py::gil_scoped_release unlocked;
  return self.load(logits.data(), logits.size());
}

static Array<int32_t> ids(const HeldCandidates& self) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < self.size(); ++i) ids.push_back(self.id(i));
  return array_of(ids);
}

static Array<double> probabilities(HeldCandidates& self) {
  std::vector<double> p;
  for (const float w : self.weights()) p.push_back(static_cast<double>(w) / self.total());
  return array_of(p);
}

static Array<float> get(const HeldCandidates& self, const std::vector<int32_t>& ids) {
  std::vector<float> logits;
  for (const int32_t id : ids) {
    const int64_t at = self.find(id);
    logits.push_back(at < 0 ? -std::numeric_limits<float>::infinity() : self.logits()[at]);
  }
  return array_of(logits);
}

static void set(HeldCandidates& self, const std::vector<int32_t>& ids, const Array<float>& logits) {
  if (static_cast<py::ssize_t>(ids.size()) != logits.size()) throw Error("ids and logits differ in number");
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t at = self.find(ids[i]);
    if (at >= 0) self.set(at, logits.data()[i]);
  }
}

static void replace(HeldCandidates& self, const Array<float>& logits) {
  if (logits.size() != self.size()) throw Error("there are not as many logits as candidates");
  for (int64_t i = 0; i < self.size(); ++i) self.set(i, logits.data()[i]);
}

static double probability(HeldCandidates& self, int32_t id) {
  const int64_t at = self.find(id);
  return at < 0 ? 0 : static_cast<double>(self.weights()[at]) / self.total();
}

static void keep_bits(HeldCandidates& self, const py::bytes& bits) {
  const std::string_view bytes = bits;
  self.keep_bits(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int64_t>(bytes.size()));
}

static double log_total(Candidates& self) { return static_cast<double>(self.top()) + exact_log(self.total()); }

static double log_sum_exp(const Array<float>& logits) {
  const py::gil_scoped_release unlocked;
  Candidates all(kernel_table());
  all.load(logits.data(), logits.size());
  return log_total(all);
}

static Array<int32_t> most_likely(HeldCandidates& self, int64_t k) {
  std::vector<int32_t> ids = self.most_likely(std::max<int64_t>(k, 0));
  for (int32_t& at : ids) at = self.id(at);
  return array_of(ids);
}

void bind_sampling(py::module_& m) {
  using py::arg;
  m.def(
      "top_k",
      [](const Array<float>& x, int64_t k) {
        std::vector<float> peaks;
        find_peaks(x.data(), x.size(), peaks);
        return array_of(top_k(x.data(), x.size(), std::max<int64_t>(k, 0), peaks));
      },
      arg("numbers"), arg("k"), "Positions of the k greatest, in descending order; equal ones by position.");
  m.def("exp", exact_exp, arg("x"), "exp(x) with the same bits everywhere.");
  m.def("log", exact_log, arg("x"), "log(x) with the same bits everywhere.");
  m.def("log_sum_exp", log_sum_exp, arg("logits"), "log of the sum of exp(logit).");
  m.def(
      "repeats", [](const Array<int32_t>& tokens) { return array_of(repeats(tokens.data(), tokens.size())); },
      arg("tokens"), "How many tokens up to each are also the last ones.");
  py::class_<HeldCandidates>(m, "Candidates", "The tokens that may come next, by id (csrc/sampling/candidates.h).")
      .def(py::init([](const std::string& isa) { return HeldCandidates(kernel_table(isa.c_str())); }), arg("isa") = "")
      .def("__len__", &Candidates::count)
      .def("load", load, arg("logits"))
      .def_property_readonly("ids", ids)
      .def_property_readonly("logits",
                             [](const HeldCandidates& self) { return Array<float>(self.size(), self.logits()); })
      .def_property_readonly("top", &Candidates::top)
      .def_property_readonly("probabilities", probabilities)
      .def_property_readonly("entropy", &Candidates::entropy)
      .def_property_readonly("log_total", [](HeldCandidates& self) { return log_total(self); })
      .def("most_likely", most_likely, arg("k"))
      .def("get", get, arg("ids"))
      .def("set", set, arg("ids"), arg("logits"))
      .def("replace", replace, arg("logits"))
      .def("probability", probability, arg("id"))
      .def("keep_bits", keep_bits, arg("bits"))
      .def("scale", &Candidates::scale, arg("temperature"), Unlocked())
      .def("top_k", &Candidates::top_k, arg("k"), Unlocked())
      .def("top_p", &Candidates::top_p, arg("p"), arg("least"), Unlocked())
      .def("typical", &Candidates::typical, arg("p"), arg("least"), Unlocked())
      .def("min_p", &Candidates::min_p, arg("p"), arg("least"), Unlocked())
      .def("top_n_sigma", &Candidates::top_n_sigma, arg("n"), Unlocked())
      .def("exclude_top", &Candidates::exclude_top, arg("threshold"), arg("least"), Unlocked())
      .def("surprise_up_to", &Candidates::surprise_up_to, arg("bits"), Unlocked())
      .def("pick", [](HeldCandidates& self, double u) { return self.id(self.pick(u)); }, arg("u"), Unlocked());
}

}  // namespace llamaq
