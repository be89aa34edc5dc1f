// A team of threads that run one job together. They meet at sync(), take work in chunks, spin briefly between meetings
// and park when nothing comes, so that an idle model costs no CPU.
//
// Each worker has a share of the chunks, which it takes front to back: it then reads weights as one stream, and what it
// fetches ahead of one chunk is the beginning of its next. When its share is out, it takes the last ones of others.
#pragma once
#include <stdint.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

#include "cpu/thread.h"

namespace llamaq {

// A counter that threads wait on: they spin, then sleep.
class Signal {
 public:
  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  void advance();                       // adds one and wakes whoever sleeps
  void wait(uint32_t seen, int spins);  // returns once value() differs from `seen`

 private:
  std::atomic<uint32_t> value_{0};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

class ThreadTeam;

// What a job sees of the team: its own number, the barrier and the chunks.
class Worker {
 public:
  Worker(ThreadTeam& team, int id) : team_(team), id_(id), share_(id) {}
  int id() const { return id_; }
  int count() const;
  void sync();                // every worker calls it; also begins the chunks of the next phase
  int next_chunk(int count);  // a chunk of this phase's `count`, or -1 when they (or the team's patience) are out

 private:
  ThreadTeam& team_;
  int id_;
  int share_;  // it takes chunks of this one
};

class ThreadTeam {
 public:
  // `threads` includes the caller of run(). Threads that share CPUs must not spin while they wait.
  explicit ThreadTeam(int threads, bool spin = true);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return size_; }

  // Whether this process is a fork of the one that made the team: it has none of the threads, so it can neither run a
  // job nor end them.
  bool inherited() const;

  // Runs the job on all workers; the caller is worker 0. One run at a time. `interrupted` is asked by worker 0 every
  // few milliseconds; once it says true no more chunks are handed out. Returns whether the job ran to its end.
  bool run(const std::function<void(Worker&)>& job, const std::function<bool()>& interrupted = {});

 private:
  friend class Worker;
  // How many chunks of a share were taken: from the front in the lower half, from the back in the upper.
  struct alignas(64) Share {
    std::atomic<uint64_t> taken{0};
  };

  void loop(int id);
  void poll();
  void begin_phase();
  void quit();  // ends and joins the threads

  const int size_;
  const int spins_;
  const int process_;
  std::mutex run_mutex_;
  Signal start_, barrier_, done_;
  std::atomic<int> arrived_{0}, finished_{0};
  std::vector<Share> shares_;
  std::atomic<bool> stop_{false}, quit_{false};
  const std::function<void(Worker&)>* job_ = nullptr;
  const std::function<bool()>* interrupted_ = nullptr;
  std::chrono::steady_clock::time_point last_poll_{};
  std::vector<Thread> threads_;
};

// Leaves an inherited team where it is: what its threads waited for in the other process can't be destroyed here.
struct TeamDeleter {
  void operator()(ThreadTeam* team) const {
    if (!team->inherited()) delete team;
  }
};

}  // namespace llamaq
