// The tokens that may come next, in ascending order of their ids, and what samplers do with them. Sums run in an order
// of their own, so every CPU comes to the same bits. A logit of -infinity is a token without a chance.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "kernels/dispatch.h"

namespace llamaq {

class Candidates {
 public:
  explicit Candidates(const KernelTable& kernels) : kernels_(kernels) {}

  // All tokens of a vocabulary. Returns the greatest logit, or NaN where one of them is. The caller keeps the logits as
  // they are while the candidates are in use: they are copied where a sampler changes one, which few do.
  float load(const float* logits, int64_t n);

  int64_t size() const { return size_; }
  int64_t count() const;  // tokens that have a chance
  int32_t id(int64_t i) const { return all_ ? static_cast<int32_t>(i) : ids_[i]; }
  const float* logits() const { return loaded_ ? loaded_ : own_.data(); }
  int64_t find(int32_t id) const;  // position of a token; -1: it is no candidate

  void set(int64_t position, float logit);
  void scale(float temperature);                       // divides every logit
  void keep_bits(const uint8_t* bits, int64_t bytes);  // keeps tokens whose bit is set, the lowest of a byte first

  // Cuts: each leaves at least one token, and `least` where there are as many.
  void top_k(int64_t k);
  void top_p(double p, int64_t least);    // keeps the most likely, until their share reaches p
  void typical(double p, int64_t least);  // keeps those of nearly average surprise, until their share exceeds p
  void min_p(double p, int64_t least);    // keeps those at least p times as likely as the first
  void top_n_sigma(double n);             // keeps those at most n standard deviations below the greatest logit
  void exclude_top(double threshold, int64_t least);  // keeps the least likely of those that reach it (XTC)
  void surprise_up_to(double bits);                   // keeps those of at most so many bits of surprise

  float top();                                  // the greatest logit
  double total();                               // sum of exp(logit - top)
  const std::vector<float>& weights();          // exp(logit - top)
  double entropy();                             // nats
  std::vector<int32_t> most_likely(int64_t k);  // positions, the most likely first
  int64_t pick(double u);                       // position of the token at the share u, 0 <= u < 1, of the total

 private:
  void take(const int32_t* positions, int64_t count);
  template <class Wanted>
  int64_t find_all(Wanted wanted);  // returns how many, and puts their positions into found_
  void find_from(double bound, std::vector<int32_t>& positions, int64_t most);
  void keep_from(double bound);             // keeps logits of at least so much
  void drop_tail(double p, int64_t least);  // drops tokens that a share of p does not need, where they are most
  void keep_mass(const float* scores, float highest, double mass, int64_t least);
  void changed() { known_peaks_ = weighed_ = false; }
  float* own_logits();  // the caller changes these
  const std::vector<float>& peaks();
  void weigh();

  const KernelTable& kernels_;
  bool all_ = true;  // ids are positions
  std::vector<int32_t> ids_;
  int64_t size_ = 0;
  const float* loaded_ =
      nullptr;              // the caller's logits, as long as they are all of the candidates' and none is changed
  std::vector<float> own_;  // the logits, otherwise
  bool known_peaks_ = false, weighed_ = false;  // whether what follows belongs to the logits
  std::vector<float> peaks_;                    // the peak of each kPeakBlock (top_k.h)
  double total_ = 0;
  std::vector<float> weights_;
  std::vector<double> block_sums_;
  std::vector<float> scores_;     // used by typical
  std::vector<int32_t> found_;    // used by find_all
  std::vector<int32_t> buckets_;  // used by keep_mass
};

}  // namespace llamaq
