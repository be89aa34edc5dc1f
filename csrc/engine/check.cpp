// What the executor refuses: plans whose parts do not fit, steps that would read or write outside their buffers. Messages
// are put together only once something is wrong.
#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "engine/adapter.h"
#include "engine/executor.h"

namespace llamaq {

void Executor::check_plan() {
  for (const int c : r_.slot_cols)
    if (c <= 0) throw Error("a plan's slots need at least one column");
  if (ops_.empty()) throw Error("a plan needs ops");
  for (const auto& group : r_.caches)
    if (group.empty()) throw Error("a cache group needs layers");
  r_.cols(out_);
  for (size_t i = 0; i < ops_.size(); ++i) {
    try {
      ops_[i]->check(r_);
    } catch (const Error& error) {
      throw Error("plan op " + std::to_string(i) + ": " + error.what());
    }
    if (const int64_t known = ops_[i]->vocabulary(r_)) vocabulary_ = known;
  }
}

static void refuse_row(int row, const std::string& why) { throw Error("step row " + std::to_string(row) + ": " + why); }

void Executor::check_adapter(const Adapter& adapter) const {
  if (&adapter.model() != &r_.weights) throw Error("an adapter is of another model");
  for (const auto& [op, direction] : adapter.directions())
    if (op < 0 || op >= static_cast<int>(ops_.size()) ||
        static_cast<int64_t>(direction.values.size()) > r_.cols(direction.slot))
      throw Error("a direction names an op or a slot that the plan does not have");
}

void Executor::check(const Step& s) const {
  if (s.rows < 1 || s.rows > r_.max_rows)
    throw Error("a step has 1 to " + std::to_string(r_.max_rows) + " rows, got " + std::to_string(s.rows));
  if (s.caches.size() != r_.caches.size()) throw Error("a step needs pages for each cache of the plan");
  if (s.n_given < 0 || s.given_cols < 0 || (s.n_given && !s.given)) throw Error("a step has no such rows given");
  std::vector<int32_t> ends(static_cast<size_t>(std::max(0, s.n_sequences)), -1);  // the last position of each
  for (int i = 0; i < s.rows; ++i) {
    if (s.tokens[i] < -s.n_given || s.tokens[i] >= vocabulary_)
      refuse_row(
          i, "token " + std::to_string(s.tokens[i]) + " is outside the vocabulary of " + std::to_string(vocabulary_));
    if (s.sequences[i] < 0 || s.sequences[i] >= s.n_sequences) refuse_row(i, "no such sequence in this step");
    if (s.positions[i] < 0) refuse_row(i, "the position is negative");
    const int last = s.positions[i] / kPageTokens;
    for (size_t group = 0; group < s.caches.size(); ++group) {
      const CachePages& cache = s.caches[group];
      const CacheLayer& layer = r_.caches[group].front();  // all layers of a group see equally far
      if (last >= cache.pages_per_sequence)
        refuse_row(i, "position " + std::to_string(s.positions[i]) + " lies beyond the sequence's pages");
      const int32_t* pages = cache.table + int64_t{s.sequences[i]} * cache.pages_per_sequence;
      for (int page = first_seen(s.positions[i], layer.window, layer.chunk) / kPageTokens; page <= last; ++page)
        if (pages[page] < 0 || pages[page] >= cache.n_pages) refuse_row(i, "a page number is outside the cache");
    }
    int32_t& end = ends[static_cast<size_t>(s.sequences[i])];
    end = std::max(end, s.positions[i]);
  }
  for (int i = 0; i < s.rows; ++i)
    if (s.last_seen[i] < s.positions[i] || s.last_seen[i] > ends[static_cast<size_t>(s.sequences[i])])
      refuse_row(i, "it sees other tokens than those up to a later row of its sequence");
  for (const auto& op : ops_) op->check_step(s);
  if (s.states.layers.size() != r_.states.size()) throw Error("a step needs the states of the plan's layers");
  for (int i = 0; i < s.states.n_parts; ++i)
    if (s.states.before[i] < -1 || s.states.before[i] >= s.states.n_slots || s.states.after[i] < 0 ||
        s.states.after[i] >= s.states.n_slots || s.states.after[i] == s.states.before[i])
      throw Error("part " + std::to_string(i) + " of the step has no such state");
  int parts = 0;
  for (int i = 0; i < (r_.states.empty() ? 0 : s.rows); ++i) {
    if (s.states.parts[i] < 0 || s.states.parts[i] > parts)
      refuse_row(i, "parts are numbered in the order of their rows");
    parts += s.states.parts[i] == parts;
  }
  if (parts != s.states.n_parts) throw Error("each part of a step needs its rows");
  if (s.n_selected < 0 || s.n_selected > r_.max_rows) throw Error("more rows selected than a step holds");
  for (int i = 0; i < s.n_selected; ++i)
    if (s.selected[i] < 0 || s.selected[i] >= s.rows) throw Error("a selected row is not in the step");
  for (int i = 0; s.adapted && i < s.n_sequences; ++i)
    if (s.adapted[i] < -1 || s.adapted[i] >= static_cast<int>(s.adaptations.size()))
      throw Error("sequence " + std::to_string(i) + " has no such adapters");
  for (const auto& adaptations : s.adaptations)
    for (const Adaptation& one : adaptations) check_adapter(*one.adapter);
  for (const Capture& c : s.captures)
    if (c.op < 0 || c.op >= static_cast<int>(ops_.size()) || c.slot < 0 ||
        c.slot >= static_cast<int>(r_.slot_cols.size()) || c.cols > r_.cols(c.slot))
      throw Error("a capture names an op or a slot that the plan does not have");
}

}  // namespace llamaq
