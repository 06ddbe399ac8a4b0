// Eight floats at a time.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

#define INLINE __attribute__((always_inline))
using Floats = float __attribute__((vector_size(32)));
using Ints = int32_t __attribute__((vector_size(32)));
constexpr int64_t kLanes = 8;

// Loads and stores of n <= kLanes floats; the branch disappears where n is a constant.
INLINE inline Floats load(const float *from, int64_t n, float fill) {
  Floats v = Floats{} + fill;
  std::memcpy(&v, from, n == kLanes ? sizeof v : n * sizeof(float));
  return v;
}
INLINE inline void store(float *to, Floats v, int64_t n) {
  std::memcpy(to, &v, n == kLanes ? sizeof v : n * sizeof(float));
}

template <class F>
INLINE inline void each(int64_t begin, int64_t end, F f) {
  for (; begin + kLanes <= end; begin += kLanes) f(begin, kLanes);
  if (begin < end) f(begin, end - begin);
}

}  // namespace
