// Large aligned memory, in huge pages where the system gives them.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace llamaq {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes);  // zeroed by the system, committed as it is touched; throws Error where there is none
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace llamaq
