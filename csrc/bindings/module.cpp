// The extension module llamaq._core.
#include "bindings/bind.h"

namespace llamaq {

// C++ errors become those of llamaq.errors, by name; the import is done when something is thrown.
static void translate(std::exception_ptr pointer) {
  const auto raise = [](const char* name, const char* message) {
    const py::object type = py::module_::import("llamaq.errors").attr(name);
    PyErr_SetString(type.ptr(), message);
  };
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const IsaError& e) {
    raise("ISAError", e.what());
  } catch (const Cancelled& e) {
    if (!PyErr_Occurred()) raise("CancelledError", e.what());  // a KeyboardInterrupt may already be set
  } catch (const Error& e) {
    raise("LlamaqError", e.what());
  }
}

}  // namespace llamaq

PYBIND11_MODULE(_core, m, llamaq::py::mod_gil_not_used()) {
  m.doc() = "The compiled part of llamaq: kernels, thread team, executor.";
  llamaq::py::register_exception_translator(llamaq::translate);
  llamaq::bind_kernels(m);
  llamaq::bind_engine(m);
  llamaq::bind_sampling(m);
  llamaq::bind_quantize(m);
}
