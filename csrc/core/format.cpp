#include "core/format.h"

#include <string>

#include "core/error.h"

namespace llamaq {

const FormatInfo* format_info(int id) {
  switch (id) {
#define X(name, id, block, bytes)                         \
  case id: {                                              \
    static const FormatInfo info = {#name, block, bytes}; \
    return &info;                                         \
  }
    LLAMAQ_FORMATS(X)
#undef X
    default: return nullptr;
  }
}

int64_t row_bytes(Format format, int64_t cols) {
  const FormatInfo* info = format_info(static_cast<int>(format));
  if (!info) throw Error("format " + std::to_string(static_cast<int>(format)) + " has no decoder");
  if (cols <= 0 || cols % info->block != 0)
    throw Error(std::string(info->name) + " rows need a multiple of " + std::to_string(info->block) +
                " elements, got " + std::to_string(cols));
  return cols / info->block * info->block_bytes;
}

}  // namespace llamaq
