// Training-mode batch normalisation followed by an activation, as two ahead-of-time operators of
// MindSpore per activation (forward, backward). Everything is float32, dense, (B, C, H, W).
//
// One thread computes a whole channel, so results do not depend on the number of threads. Never
// compile this with -ffast-math: a NaN must stay a NaN, so that the training step detects it.

#include "pool.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

#define INLINE __attribute__((always_inline))
using Floats = float __attribute__((vector_size(32)));
using Ints = int32_t __attribute__((vector_size(32)));
constexpr int64_t kLanes = 8;
constexpr int64_t kBlock = 2048;  // floats added up in float32 before the sum goes on in float64

// Loads and stores of n <= kLanes floats; the branch disappears where n is a constant.
INLINE inline Floats load(const float *from, int64_t n, float fill) {
  Floats v = Floats{} + fill;
  std::memcpy(&v, from, n == kLanes ? sizeof v : n * sizeof(float));
  return v;
}
INLINE inline void store(float *to, Floats v, int64_t n) {
  std::memcpy(to, &v, n == kLanes ? sizeof v : n * sizeof(float));
}
INLINE inline double total(Floats v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

template <class F>
INLINE inline void each(int64_t begin, int64_t end, F f) {
  for (; begin + kLanes <= end; begin += kLanes) f(begin, kLanes);
  if (begin < end) f(begin, end - begin);
}

// e^z for z clipped to [-80, 20], where all uses below are at their limit in float32 (relative error 1e-7).
// 2^k e^r with |r| <= ln(2)/2, e^r by Cephes' polynomial. NaN becomes e^20; the callers multiply by z.
INLINE inline Floats clipped_exp(Floats z) {
  z = z < 20.f ? z : Floats{} + 20.f;
  z = z > -80.f ? z : Floats{} - 80.f;
  const Floats shifted = z * 1.44269504f + 12582912.f;  // 1.5 2^23: rounds to the nearest integer
  const Floats k = shifted - 12582912.f;
  const Floats r = (z - k * 0.693359375f) + k * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  return (Floats)((Ints)p + ((Ints)shifted << 23));
}

struct Mish {  // z tanh(softplus(z)); with n = e (e + 2) and e = exp(z) the tanh is n / (n + 2)
  INLINE static Floats value(Floats z, float) {
    const Floats e = clipped_exp(z), n = e * (e + 2.f);
    return z * (n / (n + 2.f));
  }
  INLINE static Floats slope(Floats z, float) {
    const Floats e = clipped_exp(z), n = e * (e + 2.f), r = 1.f / (n + 2.f);
    return r * (n + z * (4.f * e * (e + 1.f)) * r);
  }
};
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
