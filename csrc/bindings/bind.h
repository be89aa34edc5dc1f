// What the binding files share.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "core/error.h"
#include "core/format.h"

namespace llamaq {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;  // a copy only where the caller's array is not contiguous

void bind_kernels(py::module_& m);
void bind_engine(py::module_& m);
void bind_sampling(py::module_& m);
void bind_quantize(py::module_& m);

inline Format format_of(int id) {
  if (!format_info(id)) throw Error("no decoder for GGUF type number " + std::to_string(id));
  return static_cast<Format>(id);
}

}  // namespace llamaq
