#include "measure/probe.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/error.h"
#include "engine/buffer.h"

namespace llamaq {

using Clock = std::chrono::steady_clock;

constexpr int64_t kReadPiece = int64_t{2} << 20;  // bytes that a thread reads before it asks for more: a huge page
constexpr int64_t kWords = kReadPiece / 4;

// Least seconds of up to `passes` runs (fewer once a second is spent) of a job in which workers take `chunks` chunks,
// from the moment the last one is awake. All look at the clock before they meet: one that is held up after that may find
// the work done.
template <class Chunk>
static double best_seconds(ThreadTeam& team, int passes, int chunks, const Chunk& chunk) {
  double best = 1e30;
  const Clock::time_point end = Clock::now() + std::chrono::seconds(1);
  for (int pass = 0; pass == 0 || (pass < passes && Clock::now() < end); ++pass) {
    std::vector<Clock::time_point> awake(static_cast<size_t>(team.size()));
    team.run([&](Worker& worker) {
      awake[static_cast<size_t>(worker.id())] = Clock::now();
      worker.sync();
      for (int c; (c = worker.next_chunk(chunks)) >= 0;) chunk(c);
    });
    const Clock::time_point began = *std::max_element(awake.begin(), awake.end());
    best = std::min(best, std::chrono::duration<double>(Clock::now() - began).count());
  }
  return best;
}

static double read_bandwidth(const KernelTable& kernels, ThreadTeam& team, int64_t bytes) {
  const int pieces = static_cast<int>(std::max<int64_t>(1, bytes / kReadPiece));
  const Buffer buffer(pieces * kReadPiece + 8192);  // the stream prefetches a little beyond its end
  // The threads that will read it write it first, or all pages would be the system's one page of zeros.
  best_seconds(team, 1, pieces, [&](int c) { std::fill_n(buffer.as<int32_t>() + c * kWords, kWords, 1); });
  std::atomic<bool> whole{true};
  const double seconds = best_seconds(team, 8, pieces, [&](int c) {
    if (kernels.read_bytes(buffer.data() + c * kReadPiece, kReadPiece) != kWords) whole = false;
  });
  if (!whole) throw Error("the probe read other bytes than it wrote");
  return static_cast<double>(pieces * kReadPiece) / seconds;
}

static double int8_peak(const KernelTable& kernels, ThreadTeam& team) {
  uint8_t data[4096];
  for (int i = 0; i < 4096; ++i) data[i] = static_cast<uint8_t>(i * 7 % 16);
  std::atomic<int32_t> kept{0};
  std::atomic<int64_t> ops{0};
  int64_t rounds = 16;
  const auto chunk = [&](int) {
    int32_t sum;
    ops.store(kernels.int8_peak(rounds, data, &sum), std::memory_order_relaxed);
    kept.fetch_xor(sum, std::memory_order_relaxed);
  };
  constexpr double kChunkSeconds = 2e-4;
  while (rounds < 1 << 17 && best_seconds(team, 1, 1, chunk) < kChunkSeconds) rounds *= 2;
  const int chunks = 16 * team.size();  // some milliseconds: one pass of many will be left alone by other programs
  return static_cast<double>(chunks * ops) / best_seconds(team, 50, chunks, chunk);
}

MachineLimits probe(const KernelTable& kernels, ThreadTeam& team, int64_t bytes) {
  return {read_bandwidth(kernels, team, bytes), int8_peak(kernels, team)};
}

}  // namespace llamaq
