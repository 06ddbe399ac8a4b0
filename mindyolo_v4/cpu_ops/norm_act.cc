// Training-mode batch normalisation followed by an activation, as two ahead-of-time operators of
// MindSpore per activation (forward, backward). Everything is float32, dense, (B, C, H, W).
//
// One thread computes a whole channel, so results do not depend on the number of threads. Never
// compile this with -ffast-math: a NaN must stay a NaN, so that the training step detects it.

#include "mish.h"
#include "pool.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace {

constexpr int64_t kBlock = 2048;  // floats added up in float32 before the sum goes on in float64

INLINE inline double total(Floats v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

struct Silu {  // z sigmoid(z)
  INLINE static Floats value(Floats z, float) {
    const Floats e = clipped_exp(z);
    return z * (e / (e + 1.f));
  }
  INLINE static Floats slope(Floats z, float) {
    const Floats e = clipped_exp(z), r = 1.f / (e + 1.f);
    return e * r * (1.f + z * r);
  }
};
struct Leaky {
  INLINE static Floats value(Floats z, float negative) { return z > 0.f ? z : negative * z; }
  INLINE static Floats slope(Floats z, float negative) { return z > 0.f ? Floats{} + 1.f : Floats{} + negative; }
};

struct Shape {
  int64_t batch, channels, pixels;
  explicit Shape(const int64_t *dims) : batch(dims[0]), channels(dims[1]), pixels(dims[2] * dims[3]) {}
  int64_t plane(int64_t image, int64_t channel) const { return (image * channels + channel) * pixels; }
  double count() const { return static_cast<double>(batch) * pixels; }  // values in a channel
};
struct Sums {
  double first = 0, second = 0;
};

// Add the sums of (x - shift) and (x - shift)^2.
void add_moments(const float *x, int64_t count, float shift, Sums *sums) {
  for (int64_t o = 0; o < count; o += kBlock) {
    Floats a{}, q{};
    each(o, std::min(count, o + kBlock), [&](int64_t i, int64_t n) INLINE {
      const Floats d = load(x + i, n, shift) - shift;
      a += d, q += d * d;
    });
    sums->first += total(a), sums->second += total(q);
  }
}

struct Statistics {
  float mean, inverse;  // 1 / standard deviation
  double variance;
};

// The statistics of one channel; the backward operator computes them again.
Statistics statistics(const float *x, const Shape &s, int64_t c, float eps) {
  // Sums around a rough mean: subtracting the mean from the squares then loses no precision.
  const int64_t some = std::min(s.pixels, kBlock);
  Sums rough, sums;
  add_moments(x + s.plane(0, c), some, 0.f, &rough);
  const float shift = static_cast<float>(rough.first / some);
  for (int64_t b = 0; b < s.batch; b++) add_moments(x + s.plane(b, c), s.pixels, shift, &sums);
  const double offset = sums.first / s.count(), spread = sums.second / s.count() - offset * offset;
  const double variance = spread < 0 ? 0 : spread;  // not std::max, which would lose a NaN
  return {static_cast<float>(shift + offset), static_cast<float>(1 / std::sqrt(variance + eps)), variance};
}

// x, gamma, beta, (eps, weight of the new statistics, slope), moving mean, moving variance -> y;
// the moving statistics are updated in place
template <class Act>
void forward(void **params, const Shape &s) {
  float **p = reinterpret_cast<float **>(params);
  const float eps = p[3][0], weight = p[3][1], negative = p[3][2];
  const double count = s.count(), correction = count > 1 ? count / (count - 1) : 1;
  Pool::instance().run(s.channels, s.batch * s.channels * s.pixels, [&](int64_t c) {
    const Statistics now = statistics(p[0], s, c, eps);
    p[4][c] = (1 - weight) * p[4][c] + weight * now.mean;
    p[5][c] = (1 - weight) * p[5][c] + weight * static_cast<float>(now.variance * correction);
    const float mean = now.mean, scale = p[1][c] * now.inverse, beta = p[2][c];
    for (int64_t b = 0; b < s.batch; b++) {
      const float *x = p[0] + s.plane(b, c);
      float *y = p[6] + s.plane(b, c);
      each(0, s.pixels, [&](int64_t i, int64_t n) INLINE {
        store(y + i, Act::value((load(x + i, n, mean) - mean) * scale + beta, negative), n);
      });
    }
  });
}

// dy, x, gamma, beta, (eps, weight, slope) -> dx, dgamma, dbeta
template <class Act>
void backward(void **params, const Shape &s) {
  float **p = reinterpret_cast<float **>(params);
  const float eps = p[4][0], negative = p[4][2];
  Pool::instance().run(s.channels, s.batch * s.channels * s.pixels, [&](int64_t c) {
    const Statistics now = statistics(p[1], s, c, eps);
    const float mean = now.mean, inverse = now.inverse, scale = p[2][c] * inverse, beta = p[3][c];
    Sums sums;  // of dz and dz (x - mean)
    for (int64_t b = 0; b < s.batch; b++) {
      const float *dy = p[0] + s.plane(b, c), *x = p[1] + s.plane(b, c);
      float *dz = p[5] + s.plane(b, c);
      for (int64_t o = 0; o < s.pixels; o += kBlock) {
        Floats a{}, q{};
        each(o, std::min(s.pixels, o + kBlock), [&](int64_t i, int64_t n) INLINE {
          const Floats d = load(x + i, n, mean) - mean;
          const Floats g = load(dy + i, n, 0.f) * Act::slope(d * scale + beta, negative);
          a += g, q += g * d;
          store(dz + i, g, n);
        });
        sums.first += total(a), sums.second += total(q);
      }
    }
    p[6][c] = static_cast<float>(sums.second * inverse), p[7][c] = static_cast<float>(sums.first);
    const float constant = static_cast<float>(sums.first / s.count());
    const float linear = static_cast<float>(sums.second / s.count() * inverse * inverse);
    for (int64_t b = 0; b < s.batch; b++) {
      const float *x = p[1] + s.plane(b, c);
      float *dx = p[5] + s.plane(b, c);
      each(0, s.pixels, [&](int64_t i, int64_t n) INLINE {
        const Floats centred = load(dx + i, n, 0.f) - constant - (load(x + i, n, mean) - mean) * linear;
        store(dx + i, centred * scale, n);
      });
    }
  });
}

}  // namespace

#define OPERATOR(NAME, FUNCTION, COUNT, MAP)                                                                      \
  extern "C" int NAME(int count, void **params, int *ranks, int64_t **shapes, const char **types, void *, void *) { \
    if (count != COUNT || !all_float32(count, types) || ranks[MAP] != 4) return 1;                                \
    FUNCTION(params, Shape(shapes[MAP]));                                                                         \
    return 0;                                                                                                     \
  }
#define ACTIVATION(NAME, TYPE)                   \
  OPERATOR(NAME##_forward, forward<TYPE>, 7, 0)  \
  OPERATOR(NAME##_backward, backward<TYPE>, 8, 1)
ACTIVATION(mish, Mish)
ACTIVATION(silu, Silu)
ACTIVATION(leaky, Leaky)
