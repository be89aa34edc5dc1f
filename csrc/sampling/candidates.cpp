#include "sampling/candidates.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "sampling/elementary.h"
#include "sampling/top_k.h"

namespace llamaq {

constexpr int64_t kBlock = 256;
constexpr int kBuckets = 2048;
constexpr float kNever = -std::numeric_limits<float>::infinity();

// Sum of n numbers: lane l adds every 16th from the l-th on, then the lanes are added in order.
template <class Number>
static double sum_of(int64_t n, Number number) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += number(i + lane);
  for (int lane = 0; i + lane < n; ++lane) lanes[lane] += number(i + lane);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

float Candidates::load(const float* logits, int64_t n) {
  if (n <= 0 || n > std::numeric_limits<int32_t>::max()) throw Error("there are no logits to sample from");
  all_ = true;
  changed();
  size_ = n;
  loaded_ = logits;
  peaks_.clear();
  for (int64_t at = 0; at < n; at += kPeakBlock) {
    const int64_t count = std::min(kPeakBlock, n - at);
    const float* x = logits + at;
    int32_t nan = 0;
    for (int64_t i = 0; i < count; ++i) nan |= x[i] != x[i];
    if (nan) return std::numeric_limits<float>::quiet_NaN();
    peaks_.push_back(greatest(x, count));
  }
  known_peaks_ = true;
  return top();
}

int64_t Candidates::count() const { return size() - std::count(logits(), logits() + size(), kNever); }

float* Candidates::own_logits() {
  if (loaded_) own_.assign(loaded_, loaded_ + size_);
  loaded_ = nullptr;
  return own_.data();
}

int64_t Candidates::find(int32_t id) const {
  if (all_) return id >= 0 && id < size() ? id : -1;
  const auto at = std::lower_bound(ids_.begin(), ids_.end(), id);
  return at != ids_.end() && *at == id ? at - ids_.begin() : -1;
}

void Candidates::set(int64_t position, float logit) {
  float* x = own_logits();
  const float before = std::exchange(x[position], logit);
  weighed_ = false;
  if (!known_peaks_) return;
  const int64_t block = position / kPeakBlock, at = block * kPeakBlock;
  if (logit >= peaks_[block])
    peaks_[block] = logit;
  else if (before == peaks_[block])
    peaks_[block] = greatest(x + at, std::min(kPeakBlock, size() - at));
}

void Candidates::scale(float temperature) {
  peaks();
  float* x = own_logits();
  for (int64_t i = 0; i < size(); ++i) x[i] /= temperature;
  for (float& peak : peaks_) peak /= temperature;
  weighed_ = false;
}

// Positions ascend, so each comes from its place or from behind it, and nothing is overwritten too early.
void Candidates::take(const int32_t* positions, int64_t count) {
  if (loaded_) own_.resize(count);
  for (int64_t i = 0; i < count; ++i) own_[i] = logits()[positions[i]];
  loaded_ = nullptr;
  size_ = count;
  if (all_) {
    ids_.assign(positions, positions + count);
  } else {
    for (int64_t i = 0; i < count; ++i) ids_[i] = ids_[positions[i]];
    ids_.resize(count);
  }
  all_ = false;
  changed();
}

// There is no branch: which tokens are wanted is as good as random. Tokens without a chance never are.
template <class Wanted>
int64_t Candidates::find_all(Wanted wanted) {
  if (static_cast<int64_t>(found_.size()) < size()) found_.resize(size());
  int64_t count = 0;
  const float* x = logits();
  int32_t* found = found_.data();
  for (int64_t i = 0; i < size(); ++i) {
    found[count] = static_cast<int32_t>(i);
    count += (wanted(i) & (x[i] > kNever)) ? 1 : 0;
  }
  return count;
}

// Mostly few of many candidates are wanted, and whole blocks have none. The search ends with the block in which more than
// `most` are found.
void Candidates::find_from(double bound, std::vector<int32_t>& positions, int64_t most) {
  float least = static_cast<float>(bound);
  if (static_cast<double>(least) < bound) least = std::nextafter(least, std::numeric_limits<float>::infinity());
  const std::vector<float>& highest = peaks();
  const float* x = logits();
  for (int64_t at = 0; at < size() && static_cast<int64_t>(positions.size()) <= most; at += kPeakBlock) {
    if (highest[at / kPeakBlock] < least) continue;
    for (int64_t i = at; i < std::min(size(), at + kPeakBlock); ++i)
      if (x[i] >= least && x[i] > kNever) positions.push_back(static_cast<int32_t>(i));
  }
}

void Candidates::keep_from(double bound) {
  std::vector<int32_t> positions;
  find_from(bound, positions, size());
  take(positions.data(), static_cast<int64_t>(positions.size()));
}

void Candidates::keep_bits(const uint8_t* bits, int64_t bytes) {
  const int64_t count = find_all([&](int64_t i) {
    const int32_t token = id(i);
    return token / 8 < bytes && (bits[token / 8] >> (token & 7) & 1);
  });
  take(found_.data(), count);
}

const std::vector<float>& Candidates::peaks() {
  if (!known_peaks_) find_peaks(logits(), size(), peaks_);
  known_peaks_ = true;
  return peaks_;
}

float Candidates::top() {
  const std::vector<float>& highest = peaks();
  return greatest(highest.data(), static_cast<int64_t>(highest.size()));
}

void Candidates::weigh() {
  if (weighed_) return;
  const float highest = top();
  const int64_t n = size();
  if (highest == kNever) throw Error("no token is left to choose from");
  weights_.resize(n);
  const float* x = logits();
  float* w = weights_.data();
  block_sums_.clear();
  total_ = 0;
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t count = std::min(kBlock, n - at);
    kernels_.exp_row(x + at, highest, w + at, count);
    block_sums_.push_back(sum_of(count, [=](int64_t i) { return static_cast<double>(w[at + i]); }));
    total_ += block_sums_.back();
  }
  weighed_ = true;
}

const std::vector<float>& Candidates::weights() {
  weigh();
  return weights_;
}

double Candidates::total() {
  weigh();
  return total_;
}

// The surprise of a token is log(total) - (logit - top).
double Candidates::entropy() {
  weigh();
  const float *x = logits(), *w = weights_.data(), highest = top();
  const double sum = sum_of(size(), [=](int64_t i) {
    const float below = x[i] - highest;  // a weight of 0 times -infinity would be NaN
    return static_cast<double>(w[i] * (below > -1e3f ? below : -1e3f));
  });
  return exact_log(total_) - sum / total_;
}

std::vector<int32_t> Candidates::most_likely(int64_t k) { return llamaq::top_k(logits(), size(), k, peaks()); }

int64_t Candidates::pick(double u) {
  weigh();
  double point = u * total_;
  size_t block = 0;
  while (block + 1 < block_sums_.size() && point >= block_sums_[block]) point -= block_sums_[block++];
  int64_t last = -1;
  for (int64_t i = static_cast<int64_t>(block) * kBlock; i < size(); ++i) {
    const double weight = static_cast<double>(weights_[i]);
    if (weight == 0) continue;
    last = i;
    point -= weight;
    if (point < 0) return i;
  }
  // Rounding may leave nothing after the last token that has a chance.
  for (int64_t i = size(); last < 0; --i)
    if (weights_[i - 1] > 0) last = i - 1;
  return last;
}

void Candidates::top_k(int64_t k) {
  if (k >= size()) return;
  std::vector<int32_t> positions = most_likely(std::max<int64_t>(k, 1));
  std::sort(positions.begin(), positions.end());
  take(positions.data(), static_cast<int64_t>(positions.size()));
}

void Candidates::min_p(double p, int64_t least) {
  const double bound = static_cast<double>(top()) + exact_log(p);
  const auto reaches = [=](float x) { return static_cast<double>(x) >= bound; };
  if (least > 1 && std::count_if(logits(), logits() + size(), reaches) < least) return top_k(least);
  keep_from(bound);
}

void Candidates::top_n_sigma(double n) {
  if (count() < size()) keep_from(static_cast<double>(kNever));
  const float *x = logits(), highest = top();
  const double count = static_cast<double>(size());
  const double mean = sum_of(size(), [=](int64_t i) { return static_cast<double>(x[i] - highest); }) / count;
  const double squares = sum_of(size(), [=](int64_t i) {
    const double far = static_cast<double>(x[i] - highest) - mean;
    return far * far;
  });
  keep_from(static_cast<double>(highest) - n * std::sqrt(squares / count));
}

void Candidates::surprise_up_to(double bits) {
  const double below = bits * (kLog2High + kLog2Low) - exact_log(total());  // a token of so many bits is so far below
  if (below < 0) return top_k(1);
  keep_from(static_cast<double>(top()) - below);
}

void Candidates::exclude_top(double threshold, int64_t least) {
  weigh();
  const float bound = std::max(static_cast<float>(threshold * total_), std::numeric_limits<float>::min());
  const int64_t reach = std::count_if(weights_.begin(), weights_.end(), [=](float w) { return w >= bound; });
  if (reach < 2 || (least > 1 && count() - (reach - 1) < least)) return;
  std::vector<int32_t> likely = most_likely(reach);
  likely.pop_back();
  for (const int32_t at : likely) own_logits()[at] = kNever;
  changed();
}

// Tokens with less than half of (1 - p) / size each have together less than half of what a share of p leaves over.
void Candidates::drop_tail(double p, int64_t least) {
  if (1 - p < 1e-6) return;  // rounding must not reach into the other half
  const double unlikely = (1 - p) / 2 * total() / static_cast<double>(size());
  std::vector<int32_t> positions;
  find_from(static_cast<double>(top()) + exact_log(unlikely), positions, size() / 4);
  const int64_t left = static_cast<int64_t>(positions.size());
  if (left <= size() / 4 && left >= least) take(positions.data(), left);
}

void Candidates::top_p(double p, int64_t least) {
  const double mass = p * total();
  drop_tail(p, least);
  weigh();
  keep_mass(logits(), top(), mass, least);
}

// A token of the tail is more surprising than log(total / unlikely), and where the average is less than half of that, it
// is farther from the average than any other.
void Candidates::typical(double p, int64_t least) {
  const double mass = std::nextafter(p * total(), std::numeric_limits<double>::infinity());
  const double surprise = entropy(), average = exact_log(total()) - surprise;
  if (2 * surprise < exact_log(2 * static_cast<double>(size()) / (1 - p))) drop_tail(p, least);
  weigh();
  scores_.resize(size());
  const float *x = logits(), highest = top(), shift = static_cast<float>(average);
  float* scores = scores_.data();
  for (int64_t i = 0; i < size(); ++i) scores[i] = -std::fabs((highest - x[i]) + shift);
  keep_mass(scores, 0, mass, least);
}

// Keeps, of the tokens in descending order of their scores (at most `highest`; equal ones by id), the first whose weights
// reach `mass`. Only those of the bucket of scores in which that happens are sorted.
void Candidates::keep_mass(const float* scores, float highest, double mass, int64_t least) {
  const int64_t n = size();
  const float *x = scores, *w = weights_.data();
  buckets_.resize(n);
  int32_t* buckets = buckets_.data();
  for (int64_t i = 0; i < n; ++i) {
    const float far = (highest - x[i]) * 16;
    buckets[i] = static_cast<int32_t>(far < kBuckets - 1.0f ? far : kBuckets - 1.0f);
  }
  double masses[kBuckets] = {};
  int32_t counts[kBuckets] = {};
  for (int64_t i = 0; i < n; ++i) {
    masses[buckets[i]] += static_cast<double>(w[i]);
    ++counts[buckets[i]];
  }
  int32_t bucket = 0;
  int64_t count = 0;
  double reached = 0;
  for (; bucket < kBuckets - 1; ++bucket) {
    if (reached + masses[bucket] >= mass && count + counts[bucket] >= least) break;
    reached += masses[bucket];
    count += counts[bucket];
  }
  const int64_t found = find_all([=](int64_t i) { return buckets[i] <= bucket; });
  std::vector<int32_t> last;
  for (int64_t i = 0; i < found; ++i)
    if (buckets[found_[i]] == bucket) last.push_back(found_[i]);
  std::stable_sort(last.begin(), last.end(), [=](int32_t a, int32_t b) { return x[a] > x[b]; });
  for (const int32_t at : last) {
    if (count > 0 && reached >= mass && count >= least) break;
    reached += static_cast<double>(w[at]);
    ++count;
    buckets[at] = -1;
  }
  const auto end =
      std::remove_if(found_.begin(), found_.begin() + found, [=](int32_t at) { return buckets[at] == bucket; });
  take(found_.data(), end - found_.begin());
}

}  // namespace llamaq
