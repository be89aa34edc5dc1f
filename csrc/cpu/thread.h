// A thread with a stack that kernels fit into: searches of llamaq quantize take 124 KiB, which musl's threads have as a
// whole, and macOS gives its threads 512 KiB.
#pragma once
#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace llamaq {

#if defined(_WIN32)
using Thread = std::thread;  // it has 1 MiB
#else
class Thread {
 public:
  static constexpr size_t kStack = size_t{1} << 20;  // bytes; only what is touched becomes memory

  // Throws std::system_error where the system refuses one.
  explicit Thread(std::function<void()> job) {
    auto own = std::make_unique<std::function<void()> >(std::move(job));
    pthread_attr_t attributes;
    size_t usual = 0;
    pthread_attr_init(&attributes);
    pthread_attr_getstacksize(&attributes, &usual);
    if (usual < kStack) pthread_attr_setstacksize(&attributes, kStack);
    // Somebody waits for the result: a Mac may give it the performance cores, which it binds nobody to.
#if defined(__APPLE__)
    pthread_attr_set_qos_class_np(&attributes, QOS_CLASS_USER_INITIATED, 0);
#endif
    const int error = pthread_create(&thread_, &attributes, &start, own.get());
    pthread_attr_destroy(&attributes);
    if (error) throw std::system_error(error, std::generic_category());
    own.release();
  }

  Thread(Thread&&) = default;

  void join() { pthread_join(thread_, nullptr); }

 private:
  static void* start(void* job) {
    const std::unique_ptr<std::function<void()> > own(static_cast<std::function<void()>*>(job));
    (*own)();
    return nullptr;
  }

  pthread_t thread_;
};
#endif

}  // namespace llamaq
