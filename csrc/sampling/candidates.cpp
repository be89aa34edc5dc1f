#include "sampling/candidates.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "sampling/elementary.h"
#include "sampling/top_k.h"

namespace llamaq {

constexpr int64_t kBlock = 256;
constexpr int kLanes = 16;
constexpr int64_t kFewTokens = 512;
constexpr int kBuckets = 2048;
constexpr float kNever = -std::numeric_limits<float>::infinity();

// Sum of n numbers: lane l adds every 16th from the l-th on, then the lanes are added in order.
template <class Number>
static double lane_sum(int64_t n, Number number) {
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

// Each comes from its place or from behind it, so nothing is overwritten too early.
void Candidates::take(std::vector<int32_t> positions) {
  std::sort(positions.begin(), positions.end());
  for (size_t i = 0; i < positions.size(); ++i) {
    if (!all_) ids_[i] = ids_[positions[i]];
    logits_[i] = logits_[positions[i]];
  }
  logits_.resize(positions.size());
  if (all_)
    ids_ = std::move(positions);
  else
    ids_.resize(positions.size());
  all_ = false;
  changed();
}

void Candidates::keep_bits(const uint8_t* bits, int64_t bytes) {
  filter([=](int64_t, int32_t id, float x) { return x > kNever && id / 8 < bytes && (bits[id / 8] >> (id & 7) & 1); });
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
  kernels_.exp_row(x, highest, w, n);
  block_sums_.clear();
  total_ = 0;
  for (int64_t at = 0; at < n; at += kBlock) {
    block_sums_.push_back(
        lane_sum(std::min(kBlock, n - at), [=](int64_t i) { return static_cast<double>(w[at + i]); }));
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
  const float *x = logits_.data(), *w = weights_.data(), highest = top_;
  const double sum = lane_sum(size(), [=](int64_t i) {
    const float below = x[i] - highest;  // times a weight of 0 it must not be -infinity
    return static_cast<double>(w[i]) * static_cast<double>(below > -1e3f ? below : -1e3f);
  });
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
  if (k < size()) take(most_likely(std::max<int64_t>(k, 1)));
}

void Candidates::min_p(double p, int64_t least) {
  const double bound = static_cast<double>(top()) + exact_log(p);
  const auto reaches = [=](float x) { return static_cast<double>(x) >= bound; };
  if (least > 1 && std::count_if(logits_.begin(), logits_.end(), reaches) < least) return top_k(least);
  filter([=](int64_t, int32_t, float x) { return reaches(x); });
}

void Candidates::top_n_sigma(double n) {
  if (std::count(logits_.begin(), logits_.end(), kNever) > 0)
    filter([](int64_t, int32_t, float x) { return x > kNever; });
  const float *x = logits_.data(), highest = top();
  const double count = static_cast<double>(size());
  const double mean = lane_sum(size(), [=](int64_t i) { return static_cast<double>(x[i] - highest); }) / count;
  const double squares = lane_sum(size(), [=](int64_t i) {
    const double far = static_cast<double>(x[i] - highest) - mean;
    return far * far;
  });
  const double bound = static_cast<double>(highest) - n * std::sqrt(squares / count);
  filter([=](int64_t, int32_t, float x) { return static_cast<double>(x) >= bound; });
}

void Candidates::surprise_up_to(double bits) {
  const double bound = exact_log(total()) - bits * (kLog2High + kLog2Low);
  const float highest = top();
  if (bound > 0) return top_k(1);
  filter([=](int64_t, int32_t, float x) { return static_cast<double>(x - highest) >= bound; });
}

void Candidates::exclude_top(double threshold, int64_t least) {
  weigh();
  const float bound = static_cast<float>(threshold * total_);
  const int64_t reach = std::count_if(weights_.begin(), weights_.end(), [=](float w) { return w >= bound; });
  if (reach < 2 || size() - (reach - 1) < least) return;
  const int64_t last = most_likely(reach).back();
  const float bound_logit = logits_[last];
  filter([=](int64_t i, int32_t, float x) { return (x < bound_logit) | ((x == bound_logit) & (i >= last)); });
}

void Candidates::top_p(double p, int64_t least) {
  weigh();
  keep_mass(logits_, p * total_, least);
}

void Candidates::typical(double p, int64_t least) {
  const double average = entropy(), log_total = exact_log(total_);
  scores_.resize(logits_.size());
  const float *x = logits_.data(), highest = top_;
  for (int64_t i = 0; i < size(); ++i)
    scores_[i] = static_cast<float>(-std::fabs(log_total - static_cast<double>(x[i] - highest) - average));
  keep_mass(scores_, std::nextafter(p * total_, std::numeric_limits<double>::infinity()), least);
}

// Keeps, of the tokens in descending order of their scores (equal ones by id), the first whose weights reach `mass`.
void Candidates::keep_mass(const std::vector<float>& scores, double mass, int64_t least) {
  double reached = 0;
  const auto enough = [&](size_t count) {
    return reached >= mass && static_cast<int64_t>(count) >= least && count > 0;
  };
  // Mostly a few tokens hold the mass; then it is enough to sort these.
  std::vector<int32_t> first = llamaq::top_k(scores.data(), size(), kFewTokens);
  for (size_t i = 0; i < first.size(); ++i) {
    if (enough(i)) return first.resize(i), take(std::move(first));
    reached += static_cast<double>(weights_[first[i]]);
  }
  if (!enough(first.size()) && first.size() < logits_.size())
    keep_mass_of_many(scores, mass, least);
  else
    take(std::move(first));
}

// The same for many tokens: only those of the bucket of scores in which the mass is reached are sorted.
void Candidates::keep_mass_of_many(const std::vector<float>& scores, double mass, int64_t least) {
  const float highest = greatest(scores.data(), size());
  const auto bucket_of = [=](float x) { return static_cast<int>(std::min((highest - x) * 16, kBuckets - 1.0f)); };
  double masses[kBuckets] = {};
  int64_t counts[kBuckets] = {};
  for (int64_t i = 0; i < size(); ++i) {
    const int b = bucket_of(scores[i]);
    masses[b] += static_cast<double>(weights_[i]);
    ++counts[b];
  }
  int bucket = 0;
  int64_t count = 0;
  double reached = 0;
  for (; bucket < kBuckets - 1; ++bucket) {
    if (reached + masses[bucket] >= mass && count + counts[bucket] >= least) break;
    reached += masses[bucket];
    count += counts[bucket];
  }
  std::vector<std::pair<float, int64_t>> sorted;  // ascending distance from the greatest score, then position
  for (int64_t i = 0; i < size(); ++i)
    if (bucket_of(scores[i]) == bucket) sorted.emplace_back(-scores[i], i);
  std::sort(sorted.begin(), sorted.end());
  std::pair<float, int64_t> last = sorted.front();
  for (const auto& next : sorted) {
    if (reached >= mass && count >= least) break;
    reached += static_cast<double>(weights_[next.second]);
    ++count;
    last = next;
  }
  const float bound = -last.first;
  const float* all_scores = scores.data();
  filter([=](int64_t i, int32_t, float) {
    return (all_scores[i] > bound) | ((all_scores[i] == bound) & (i <= last.second));
  });
}

}  // namespace llamaq
