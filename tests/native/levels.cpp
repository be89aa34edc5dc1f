// Every SIMD level against recorded digests, without Python: for systems that CI can compile for and perhaps emulate.
// `levels` compares and ends with "N passed, M failed"; `levels record` prints recorded.inc anew, from the scalar level.
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "cpu/system.h"
#include "cpu/thread_team.h"
#include "engine/cache_pages.h"
#include "engine/row_groups.h"
#include "engine/weights.h"
#include "kernels/dispatch.h"
#include "quantize/quantize.h"

using namespace llamaq;

static const std::map<std::string, uint64_t> kRecorded = {
#include "recorded.inc"
};

using Digests = std::map<std::string, uint64_t>;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint32_t bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 32);
  }
  float number() { return static_cast<float>(static_cast<int32_t>(bits()) >> 8) / 8388608.0f; }  // [-1, 1)

 private:
  uint64_t state_;
};

static std::vector<float> numbers(int64_t n, uint64_t seed, float most = 1.0f) {
  Random random(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& each : x) each = most * random.number();
  return x;
}

// FNV-1a
static uint64_t digest(const void* data, size_t bytes) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 1099511628211u;
  return hash;
}

template <class T>
static uint64_t digest(const std::vector<T>& values) {
  return digest(values.data(), values.size() * sizeof(T));
}

// Rows of any format. One bit of each byte is clear, which keeps scales from infinity and NaN.
static std::vector<uint8_t> blocks(Format format, int64_t rows, int64_t cols) {
  Random random(static_cast<uint64_t>(format) + 99);
  std::vector<uint8_t> data(static_cast<size_t>(rows * row_bytes(format, cols)));
  for (uint8_t& each : data) each = random.bits() & 0xbf;
  return data;
}

static void matrices(const KernelTable& level, ThreadTeam& team, Digests& found) {
  constexpr int64_t kRows = 53, kCols = 512;
  for (int id = 0; id < kFormatSlots; ++id) {
    if (!level.matmul[id].name) continue;
    const Format format = static_cast<Format>(id);
    const std::string name = format_info(id)->name;
    const std::vector<uint8_t> data = blocks(format, kRows, kCols);
    std::vector<float> plain(kRows * kCols);
    level.dequantize[id](data.data(), plain.data(), kRows * kCols);
    found["dequantize " + name] = digest(plain);
    Weights weights(level);
    weights.matrix(format, kRows, kCols, data.data());
    weights.pack(team);
    const Weight& weight = weights.all()[0];
    for (const int m : {1, 2, 3, 5, 8, 19}) {
      const std::vector<float> x = numbers(m * kCols, 7);
      std::vector<QuantBlock> groups(static_cast<size_t>(group_blocks(m, kCols)));
      for (int i = 0; i < m; ++i) quantize_into_group(level, x.data() + i * kCols, kCols, i, m, groups.data());
      const void* from = weight.kernel->quantized_input ? static_cast<const void*>(groups.data()) : x.data();
      std::vector<float> y(static_cast<size_t>(m * kRows));
      team.run([&](Worker& worker) {
        for (int c; (c = worker.next_chunk(4)) >= 0;) {
          const int64_t begin = 16 * c, end = std::min<int64_t>(kRows, begin + 16);
          weight.kernel->run({weight.data, from, m, kRows, kCols, begin, end, y.data() + begin, kRows});
        }
      });
      found["matmul " + name + " " + std::to_string(m)] = digest(y);
    }
  }
}

static void rows(const KernelTable& level, Digests& found) {
  constexpr int64_t kCols = 203;
  const std::vector<float> x = numbers(kCols, 1, 9.0f), w = numbers(kCols, 2), b = numbers(kCols, 3);
  std::vector<float> y(kCols);
  const auto take = [&](const std::string& name) { found[name] = digest(y); };
  level.rms_norm(x.data(), w.data(), 1e-5f, kCols, y.data()), take("rms_norm");
  level.layer_norm(x.data(), w.data(), b.data(), 1e-5f, kCols, y.data()), take("layer_norm");
  y = x, level.softcap(y.data(), 5.0f, kCols), take("softcap");
  level.exp_row(x.data(), 9.0f, y.data(), kCols), take("exp_row");
  for (int i = 0; i < kActivations; ++i) {
    if (level.activate[i]) level.activate[i](x.data(), y.data(), kCols), take("activate " + std::to_string(i));
    if (level.glu[i]) level.glu[i](x.data(), w.data(), y.data(), kCols), take("glu " + std::to_string(i));
  }
  y.resize(192);
  std::copy_n(x.begin(), 192, y.begin());
  level.rope(y.data(), 3, 64, 32, false, w.data(), b.data()), take("rope halves");
  level.rope(y.data(), 3, 64, 32, true, w.data(), b.data()), take("rope neighbours");
}

static void attention(const KernelTable& level, Digests& found) {
  constexpr int kTokens = 300, kHeads = 3, kDim = 64, kRows = 2;
  for (const Format type : {Format::F32, Format::F16, Format::Q8_0, Format::Q4_0}) {
    const std::vector<float> k = numbers(kTokens * kDim, 4, 3.0f), v = numbers(kTokens * kDim, 5);
    const std::vector<float> q = numbers(kRows * kHeads * kDim, 6, 3.0f);
    const int64_t page = page_bytes(kDim, kDim, type);
    std::vector<int32_t> pages(kTokens / kPageTokens + 1), positions(kTokens);
    for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(pages.size() - 1 - i);
    for (int i = 0; i < kTokens; ++i) positions[static_cast<size_t>(i)] = i;
    std::vector<uint8_t> memory(pages.size() * static_cast<size_t>(page));
    const CacheView cache = {memory.data(), static_cast<ptrdiff_t>(page), pages.data(), type, kDim, kDim, false};
    level.store_kv({cache, positions.data(), kTokens, k.data(), v.data(), kDim, kDim});
    std::vector<float> out(kRows * kHeads * kDim);
    std::vector<float> states(static_cast<size_t>(2 * level.attention_states(kRows * kHeads, kDim)));
    std::vector<float> scratch(static_cast<size_t>(level.attention_scratch(kRows * kHeads, kDim, kDim)));
    const int32_t* last = positions.data() + kTokens - kRows;
    level.attention({cache, q.data(), kHeads * kDim, last, last, kRows, kHeads, 0, 0, 0.125f, 0.0f, nullptr, 0,
                     (kTokens - 1) / kSpanTokens + 1, out.data(), kHeads * kDim, nullptr, scratch.data()});
    found["attention " + std::to_string(static_cast<int>(type))] = digest(out);
  }
}

static void searches(const KernelTable& level, ThreadTeam& team, Digests& found) {
  constexpr int64_t kRows = 5, kCols = 768;
  const std::vector<float> x = numbers(kRows * kCols, 8), w = numbers(kCols, 9);
  std::vector<float> weights(w);
  for (float& each : weights) each = 1.5f + each;
  for (int id = 0; id < kFormatSlots; ++id) {
    if (!format_info(id)) continue;
    const Format to = static_cast<Format>(id);
    std::vector<uint8_t> dst(static_cast<size_t>(kRows * row_bytes(to, kCols)));
    const auto* src = reinterpret_cast<const uint8_t*>(x.data());
    try {
      quantize_rows({Format::F32, to, kRows, kCols, src, weights.data(), dst.data()}, team, level.isa);
    } catch (const std::exception&) {  // llamaq has no search for this format
      continue;
    }
    found[std::string("quantize ") + format_info(id)->name] = digest(dst);
  }
}

static Digests digests_of(const KernelTable& level) {
  Digests found;
  ThreadTeam team(3);
  matrices(level, team, found);
  rows(level, found);
  attention(level, found);
  searches(level, team, found);
  return found;
}

int main(int count, char** words) {
  if (count > 1 && strcmp(words[1], "record") == 0) {
    for (const auto& [name, hash] : digests_of(*usable_tables()[0]))
      printf("{\"%s\", 0x%016llxu},\n", name.c_str(), static_cast<unsigned long long>(hash));
    return 0;
  }
  const MemoryInfo memory = system_memory();
  printf("CPU '%s', %zu CPUs told, %lld of %lld bytes available\n", cpu_name().c_str(), system_cpus().size(),
         static_cast<long long>(memory.available), static_cast<long long>(memory.total));
  int passed = 0, failed = 0;
  for (const KernelTable* level : usable_tables()) {
    const Digests found = digests_of(*level);
    for (const auto& [name, hash] : kRecorded) {
      const auto at = found.find(name);
      const bool same = at != found.end() && at->second == hash;
      if (!same) printf("%s: %s differs from what is recorded\n", level->isa, name.c_str());
      ++(same ? passed : failed);
    }
    if (found.size() != kRecorded.size()) printf("%s: not recorded: some of it\n", level->isa), ++failed;
    printf("level %s: %zu values\n", level->isa, found.size());
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
