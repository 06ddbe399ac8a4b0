// Training-mode batch normalisation followed by an activation, as two ahead-of-time operators of
// MindSpore per activation (forward, backward). Everything is float32, dense, (B, C, H, W).
//
// A second pair has statistics that are pooled with those of earlier micro-batches (CmBN, the
// formulas are in models/mini_batch_norm.py).
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

// The statistics of one channel together with those of the earlier micro-batches of the step:
// rows of means, variances and their number, (3, C).
Statistics pooled(const Statistics &own, const float *earlier, const Shape &s, int64_t c, float eps) {
  const double mean = earlier[c], variance = earlier[s.channels + c], t = earlier[2 * s.channels + c] + 1;
  const double d = own.mean - mean;
  const double all = variance + (own.variance - variance) / t + d * d * (t - 1) / (t * t);
  return {static_cast<float>(mean + d / t), static_cast<float>(1 / std::sqrt(all + eps)), all};
}

// x, gamma, beta, (eps, weight of the new statistics, slope), [earlier statistics,] moving mean,
// moving variance [, statistics of the step] -> y; the moving statistics, and those of the step,
// are updated in place
template <class Act, bool kPooled>
void forward(void **params, const Shape &s) {
  float **p = reinterpret_cast<float **>(params);
  const float eps = p[3][0], weight = p[3][1], negative = p[3][2];
  const float *earlier = kPooled ? p[4] : nullptr;
  float *means = p[kPooled ? 5 : 4], *variances = p[kPooled ? 6 : 5], *step = kPooled ? p[7] : nullptr;
  float *output = p[kPooled ? 8 : 6];
  Pool::instance().run(s.channels, s.batch * s.channels * s.pixels, [&](int64_t c) {
    Statistics now = statistics(p[0], s, c, eps);
    double count = s.count();
    if (kPooled) {
      const float t = earlier[2 * s.channels + c] + 1;
      now = pooled(now, earlier, s, c, eps);
      count *= t;
      step[c] = now.mean, step[s.channels + c] = static_cast<float>(now.variance), step[2 * s.channels + c] = t;
    }
    const double correction = count > 1 ? count / (count - 1) : 1;
    means[c] = (1 - weight) * means[c] + weight * now.mean;
    variances[c] = (1 - weight) * variances[c] + weight * static_cast<float>(now.variance * correction);
    const float mean = now.mean, scale = p[1][c] * now.inverse, beta = p[2][c];
    for (int64_t b = 0; b < s.batch; b++) {
      const float *x = p[0] + s.plane(b, c);
      float *y = output + s.plane(b, c);
      each(0, s.pixels, [&](int64_t i, int64_t n) INLINE {
        store(y + i, Act::value((load(x + i, n, mean) - mean) * scale + beta, negative), n);
      });
    }
  });
}

// dy, x, gamma, beta, (eps, weight, slope) [, earlier statistics] -> dx, dgamma, dbeta
template <class Act, bool kPooled>
void backward(void **params, const Shape &s) {
  float **p = reinterpret_cast<float **>(params);
  const float eps = p[4][0], negative = p[4][2];
  const float *earlier = kPooled ? p[5] : nullptr;
  float **outputs = p + (kPooled ? 6 : 5);
  Pool::instance().run(s.channels, s.batch * s.channels * s.pixels, [&](int64_t c) {
    Statistics now = statistics(p[1], s, c, eps);
    double count = s.count();  // of the values of which a value changes the statistics by 1 / count
    if (kPooled) now = pooled(now, earlier, s, c, eps), count *= earlier[2 * s.channels + c] + 1;
    const float mean = now.mean, inverse = now.inverse, scale = p[2][c] * inverse, beta = p[3][c];
    Sums sums;  // of dz and dz (x - mean)
    for (int64_t b = 0; b < s.batch; b++) {
      const float *dy = p[0] + s.plane(b, c), *x = p[1] + s.plane(b, c);
      float *dz = outputs[0] + s.plane(b, c);
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
    outputs[1][c] = static_cast<float>(sums.second * inverse), outputs[2][c] = static_cast<float>(sums.first);
    const float constant = static_cast<float>(sums.first / count);
    const float linear = static_cast<float>(sums.second / count * inverse * inverse);
    for (int64_t b = 0; b < s.batch; b++) {
      const float *x = p[1] + s.plane(b, c);
      float *dx = outputs[0] + s.plane(b, c);
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
    /* the backward operator needs the earlier statistics as they were: they must be a copy */                    \
    if (count == 9 && MAP == 0 && params[4] == params[7]) return 2;                                               \
    FUNCTION(params, Shape(shapes[MAP]));                                                                         \
    return 0;                                                                                                     \
  }
#define ACTIVATION(NAME, TYPE)                                      \
  OPERATOR(NAME##_forward, (forward<TYPE, false>), 7, 0)            \
  OPERATOR(NAME##_backward, (backward<TYPE, false>), 8, 1)          \
  OPERATOR(NAME##_pooled_forward, (forward<TYPE, true>), 9, 0)      \
  OPERATOR(NAME##_pooled_backward, (backward<TYPE, true>), 9, 1)
ACTIVATION(mish, Mish)
ACTIVATION(silu, Silu)
ACTIVATION(leaky, Leaky)
