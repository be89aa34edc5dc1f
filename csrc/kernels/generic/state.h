// Writing the state that a recurrence leaves. Where it stands elsewhere than the one before it, nothing reads it until the
// next token, when all weights have gone through the caches: stores past them save the reading of lines that are
// overwritten.
inline bool passes(const float* before, const float* after, int64_t cols) {
  return before != after && cols % 16 == 0 && reinterpret_cast<uintptr_t>(after) % 64 == 0;
}

inline void put_state(float* p, F32 a, int lanes, bool passing) {
  if (passing)
    stream(p, a);
  else
    store_first(p, a, lanes);
}
