#include "engine/buffer.h"

#include <string>
#include <utility>

#include "core/error.h"

#if defined(_WIN32)
#include "cpu/windows.h"
#else
#include <sys/mman.h>
#endif

namespace llamaq {

Buffer::Buffer(int64_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  const std::string failure = "the system refused " + std::to_string(bytes) + " bytes of memory";
  if (bytes < 0) throw Error(failure);
#if defined(_WIN32)
  void* memory = VirtualAlloc(nullptr, static_cast<size_t>(bytes), MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
  if (!memory) throw Error(failure);
  data_ = static_cast<uint8_t*>(memory);
#else
  constexpr int64_t kHugePage = int64_t{2} << 20;
  constexpr int64_t kPage = 65536;  // bytes of the largest pages that today's systems have
  size_ = (bytes + kPage - 1) / kPage * kPage;
  const int64_t spare = size_ < kHugePage ? 0 : kHugePage;  // the system gives huge pages at multiples of their size
  void* memory =
      mmap(nullptr, static_cast<size_t>(size_ + spare), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw Error(failure);
  data_ = static_cast<uint8_t*>(memory);
  if (!spare) return;
  const int64_t before =
      (kHugePage - static_cast<int64_t>(reinterpret_cast<uintptr_t>(memory) % kHugePage)) % kHugePage;
  data_ += before;
  if (before) munmap(memory, static_cast<size_t>(before));
  if (before < spare) munmap(data_ + size_, static_cast<size_t>(spare - before));
#if defined(MADV_HUGEPAGE)
  madvise(data_, static_cast<size_t>(size_), MADV_HUGEPAGE);  // this is a wish: small pages work too
#endif
#endif
}

Buffer::~Buffer() {
  if (!data_) return;
#if defined(_WIN32)
  VirtualFree(data_, 0, MEM_RELEASE);
#else
  munmap(data_, static_cast<size_t>(size_));
#endif
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace llamaq
