#include "cpu/thread_team.h"

#include <string>
#include <system_error>

#include "core/error.h"

#ifndef _WIN32
#include <unistd.h>
#endif

namespace llamaq {

constexpr int kSpins = 2000;  // some 50 to 100 microseconds

static int this_process() {
#ifdef _WIN32
  return 0;  // there is no fork
#else
  return static_cast<int>(getpid());
#endif
}

static inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

void Signal::advance() {
  value_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
  }  // a sleeper is now in wait(), not between its check and its wait
  wake_.notify_all();
}

// It never yields: that hands a whole time slice to any other busy process, and costs more than to sleep and be woken.
void Signal::wait(uint32_t seen, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (value() != seen) return;
    pause_cpu();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  wake_.wait(lock, [&] { return value_.load(std::memory_order_seq_cst) != seen; });
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

int Worker::count() const { return team_.size_; }

void Worker::sync() {
  share_ = id_;
  if (team_.size_ == 1) return team_.begin_phase();
  const uint32_t seen = team_.barrier_.value();
  if (team_.arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == team_.size_) {
    team_.arrived_.store(0, std::memory_order_relaxed);
    team_.begin_phase();
    team_.barrier_.advance();
  } else {
    team_.barrier_.wait(seen, team_.spins_);
  }
}

int Worker::next_chunk(int count) {
  if (id_ == 0) team_.poll();
  if (team_.stop_.load(std::memory_order_relaxed)) return -1;
  const int64_t size = team_.size_;
  do {
    const bool own = share_ == id_;
    const int64_t begin = count * share_ / size, end = count * (share_ + 1) / size;
    const uint64_t taken = team_.shares_[static_cast<size_t>(share_)].taken.fetch_add(own ? 1 : uint64_t{1} << 32,
                                                                                      std::memory_order_relaxed);
    const int64_t front = static_cast<uint32_t>(taken), back = static_cast<int64_t>(taken >> 32);
    if (front + back < end - begin) return static_cast<int>(own ? begin + front : end - 1 - back);
    share_ = share_ + 1 < size ? share_ + 1 : 0;
  } while (share_ != id_);
  return -1;
}

void ThreadTeam::begin_phase() {
  for (Share& share : shares_) share.taken.store(0, std::memory_order_relaxed);
}

static int checked(int threads) {
  if (threads < 1 || threads > 1024) throw Error("threads must be 1 to 1024, got " + std::to_string(threads));
  return threads;
}

ThreadTeam::ThreadTeam(int threads, bool spin)
    : size_(checked(threads)),
      spins_(spin ? kSpins : 0),
      process_(this_process()),
      shares_(static_cast<size_t>(threads)) {
  try {
    for (int id = 1; id < size_; ++id) threads_.emplace_back([this, id] { loop(id); });
  } catch (const std::system_error&) {
    const size_t started = threads_.size() + 1;
    quit();
    throw Error("the system allows " + std::to_string(started) + " of " + std::to_string(threads) + " threads");
  }
}

ThreadTeam::~ThreadTeam() { quit(); }

bool ThreadTeam::inherited() const { return process_ != this_process(); }

void ThreadTeam::quit() {
  quit_.store(true, std::memory_order_relaxed);
  start_.advance();
  for (Thread& thread : threads_) thread.join();
}

void ThreadTeam::loop(int id) {
  for (uint32_t seen = 0;;) {
    start_.wait(seen, spins_);
    ++seen;
    if (quit_.load(std::memory_order_relaxed)) return;
    Worker worker(*this, id);
    (*job_)(worker);
    if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) done_.advance();
  }
}

bool ThreadTeam::run(const std::function<void(Worker&)>& job, const std::function<bool()>& interrupted) {
  if (inherited()) throw Error("the model was loaded before this process was forked; load it in this process");
  std::lock_guard<std::mutex> one_at_a_time(run_mutex_);
  job_ = &job;
  interrupted_ = interrupted ? &interrupted : nullptr;
  last_poll_ = std::chrono::steady_clock::now();
  stop_.store(false, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  begin_phase();
  const uint32_t seen = done_.value();
  start_.advance();
  Worker worker(*this, 0);
  job(worker);
  if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_)
    done_.advance();
  else
    done_.wait(seen, spins_);
  return !stop_.load(std::memory_order_relaxed);
}

void ThreadTeam::poll() {
  if (!interrupted_ || stop_.load(std::memory_order_relaxed)) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_poll_ < std::chrono::milliseconds(10)) return;
  last_poll_ = now;
  if ((*interrupted_)()) stop_.store(true, std::memory_order_relaxed);
}

}  // namespace llamaq
