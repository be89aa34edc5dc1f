#include "sampling/candidates.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "sampling/elementary.h"
#include "sampling/top_k.h"

namespace llamaq {

constexpr int64_t kBlock = 256;
constexpr int kLanes = 16;
constexpr float kNever = -std::numeric_limits<float>::infinity();

// Sum of a block: lane l adds every 16th number from the l-th on, then the lanes are added in order.
static double block_sum(const float* x, int64_t n) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(x[i + lane]);
  for (int lane = 0; i + lane < n; ++lane) lanes[lane] += static_cast<double>(x[i + lane]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

float Candidates::load(const float* logits, int64_t n) {
  if (n <= 0 || n > std::numeric_limits<int32_t>::max()) throw Error("there are no logits to sample from");
  logits_.assign(logits, logits + n);
  all_ = true;
  changed();
  int32_t nan[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) nan[lane] |= logits[i + lane] != logits[i + lane];
  for (; i < n; ++i) nan[0] |= logits[i] != logits[i];
  if (*std::max_element(nan, nan + kLanes)) return std::numeric_limits<float>::quiet_NaN();
  return top();
}

int64_t Candidates::find(int32_t id) const {
  if (all_) return id >= 0 && id < size() ? id : -1;
  const auto at = std::lower_bound(ids_.begin(), ids_.end(), id);
  return at != ids_.end() && *at == id ? at - ids_.begin() : -1;
}

void Candidates::set(int64_t position, float logit) {
  logits_[position] = logit;
  changed();
}

void Candidates::scale(double temperature) {
  for (float& x : logits_) x = static_cast<float>(static_cast<double>(x) / temperature);
  changed();
}

template <class Keep>
void Candidates::filter(Keep keep) {
  const int64_t n = size();
  if (all_) ids_.resize(n);
  int64_t kept = 0;
  for (int64_t i = 0; i < n; ++i) {
    const size_t from = i, to = kept;
    const int32_t id = all_ ? static_cast<int32_t>(i) : ids_[from];
    const float logit = logits_[from];
    const bool wanted = keep(i, id, logit);
    ids_[to] = id;
    logits_[to] = logit;
    kept += wanted;
  }
  ids_.resize(kept);
  logits_.resize(kept);
  all_ = false;
  changed();
}

void Candidates::keep_bits(const uint8_t* bits, int64_t bytes) {
  filter([=](int64_t, int32_t id, float logit) {
    return logit > kNever && id / 8 < bytes && (bits[id / 8] >> (id % 8) & 1);
  });
}

float Candidates::top() {
  if (!known_top_) top_ = greatest(logits_.data(), size());
  known_top_ = true;
  return top_;
}

void Candidates::weigh() {
  if (weighed_) return;
  const float highest = top();
  const int64_t n = size();
  if (highest == kNever) throw Error("no token is left to choose from");
  weights_.resize(n);
  const float* x = logits_.data();
  float* w = weights_.data();
  for (int64_t i = 0; i < n; ++i) w[i] = exp_nonpositive(x[i] - highest);
  block_sums_.clear();
  total_ = 0;
  for (int64_t at = 0; at < n; at += kBlock) {
    block_sums_.push_back(block_sum(w + at, std::min(kBlock, n - at)));
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
  double sum = 0;
  for (size_t i = 0; i < weights_.size(); ++i)
    if (weights_[i] > 0) sum += static_cast<double>(weights_[i]) * static_cast<double>(logits_[i] - top_);
  return exact_log(total_) - sum / total_;
}

std::vector<int32_t> Candidates::most_likely(int64_t k) { return llamaq::top_k(logits_.data(), size(), k); }

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
  // Each comes from its place or behind it, so nothing is overwritten too early.
  for (size_t i = 0; i < positions.size(); ++i) {
    const size_t from = positions[i];
    if (!all_) ids_[i] = ids_[from];
    logits_[i] = logits_[from];
  }
  if (all_) ids_ = positions;
  ids_.resize(positions.size());
  logits_.resize(positions.size());
  all_ = false;
  changed();
}

void Candidates::min_p(double p, int64_t least) {
  const double bound = static_cast<double>(top()) + exact_log(p);
  const auto reaches = [=](float x) { return static_cast<double>(x) >= bound; };
  if (least > 1 && std::count_if(logits_.begin(), logits_.end(), reaches) < least) return top_k(least);
  filter([=](int64_t, int32_t, float x) { return reaches(x); });
}

void Candidates::top_n_sigma(double n) {
  const float highest = top();
  double count = 0, sum = 0, squares = 0;
  for (const float x : logits_) {
    const double below = x > kNever ? static_cast<double>(x - highest) : 0;
    count += x > kNever;
    sum += below;
    squares += below * below;
  }
  const double mean = sum / count, variance = std::max(0.0, squares / count - mean * mean);
  const double bound = static_cast<double>(highest) - n * std::sqrt(variance);
  filter([=](int64_t, int32_t, float x) { return x > kNever && static_cast<double>(x) >= bound; });
}

void Candidates::surprise_up_to(double bits) {
  const double bound = exact_log(total()) - bits * (kLog2High + kLog2Low);
  const float highest = top();
  if (bound > 0) return top_k(1);
  filter([=](int64_t, int32_t, float x) { return static_cast<double>(x - highest) >= bound; });
}

void Candidates::exclude_top(double threshold, int64_t least) {
  weigh();
  const double bound = threshold * total_;
  int64_t reach = 0;
  for (const float w : weights_) reach += static_cast<double>(w) >= bound;
  if (reach < 2 || size() - (reach - 1) < least) return;
  const std::vector<int32_t> likely = most_likely(reach);
  const int32_t last = likely.back();
  const uint64_t first = descending_key(logits_[last], last);
  filter([=](int64_t i, int32_t, float x) { return descending_key(x, i) >= first; });
}

void Candidates::top_p(double p, int64_t least) {
  weigh();
  std::vector<float> scores(logits_.size());
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = top_ - logits_[i];
  keep_mass(scores, p * total_, least);
}

void Candidates::typical(double p, int64_t least) {
  const double average = entropy(), log_total = exact_log(total_);
  std::vector<float> scores(logits_.size());
  for (size_t i = 0; i < scores.size(); ++i)
    scores[i] = static_cast<float>(std::fabs(log_total - static_cast<double>(logits_[i] - top_) - average));
  keep_mass(scores, std::nextafter(p * total_, std::numeric_limits<double>::infinity()), least);
}

// Keeps, of the tokens in ascending order of their scores (>= 0; equal ones by id), the first whose weights reach
// `mass` together. Only tokens of the bucket in which that happens are sorted.
void Candidates::keep_mass(const std::vector<float>& scores, double mass, int64_t least) {
  constexpr int kBuckets = 2048;
  constexpr float kPerUnit = 16;
  const auto bucket_of = [](float score) {
    return score * kPerUnit < kBuckets - 1 ? static_cast<int>(score * kPerUnit) : kBuckets - 1;
  };
  double masses[kBuckets] = {};
  int64_t counts[kBuckets] = {};
  for (size_t i = 0; i < scores.size(); ++i) {
    const int b = bucket_of(scores[i]);
    masses[b] += static_cast<double>(weights_[i]);
    ++counts[b];
  }
  int bucket = 0;
  int64_t count = 0;
  double reached = 0;
  const auto enough = [&](double more, int64_t others) { return reached + more >= mass && count + others >= least; };
  while (bucket < kBuckets - 1 && !enough(masses[bucket], counts[bucket])) {
    reached += masses[bucket];
    count += counts[bucket++];
  }
  std::vector<uint64_t> keys;
  for (size_t i = 0; i < scores.size(); ++i)
    if (bucket_of(scores[i]) == bucket) keys.push_back(descending_key(-scores[i], static_cast<int64_t>(i)));
  std::sort(keys.begin(), keys.end());
  uint64_t last = 0;
  for (const uint64_t key : keys) {
    if (count > 0 && enough(0, 0)) break;
    reached += static_cast<double>(weights_[key & 0xffffffffu]);
    ++count;
    last = key;
  }
  filter([&](int64_t i, int32_t, float x) { return x > kNever && descending_key(-scores[i], i) <= last; });
}

}  // namespace llamaq
