// Mish and its gradient as ahead-of-time operators of MindSpore; float32, any shape, dense.

#include "mish.h"
#include "pool.h"

#include <algorithm>

namespace {

constexpr int64_t kPiece = 16384;  // floats that a thread takes at once

int64_t count_of(int rank, const int64_t *shape) {
  int64_t count = 1;
  for (int i = 0; i < rank; i++) count *= shape[i];
  return count;
}

template <class F>
void in_pieces(int64_t count, F f) {
  Pool::instance().run((count + kPiece - 1) / kPiece, count,
                       [&](int64_t piece) { each(piece * kPiece, std::min(count, (piece + 1) * kPiece), f); });
}

}  // namespace

// x -> y
extern "C" int mish(int count, void **params, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  if (count != 2 || !all_float32(count, types)) return 1;
  const float *x = static_cast<float *>(params[0]);
  float *y = static_cast<float *>(params[1]);
  in_pieces(count_of(ranks[0], shapes[0]),
            [&](int64_t i, int64_t n) INLINE { store(y + i, Mish::value(load(x + i, n, 0.f), 0.f), n); });
  return 0;
}

// dy, x -> dx
extern "C" int mish_gradient(int count, void **params, int *ranks, int64_t **shapes, const char **types, void *,
                             void *) {
  if (count != 3 || !all_float32(count, types)) return 1;
  const float *dy = static_cast<float *>(params[0]), *x = static_cast<float *>(params[1]);
  float *dx = static_cast<float *>(params[2]);
  in_pieces(count_of(ranks[1], shapes[1]), [&](int64_t i, int64_t n) INLINE {
    store(dx + i, load(dy + i, n, 0.f) * Mish::slope(load(x + i, n, 0.f), 0.f), n);
  });
  return 0;
}
