// Training-mode batch normalisation followed by an activation, forward and backward, as two ahead-of-time operators of
// MindSpore an activation. Everything is float32, dense, (B, C, H, W).
//
// A channel is computed by one thread from beginning to end, so results do not depend on how many threads there are.
// Nothing here may be compiled with -ffast-math: a NaN must come out as a NaN for the training step to see it.

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace {

#define INLINE __attribute__((always_inline))
using Floats = float __attribute__((vector_size(32)));
using Ints = int32_t __attribute__((vector_size(32)));
constexpr int64_t kLanes = 8;
constexpr int64_t kBlock = 2048;        // floats added up in float32 before the sum goes on in float64
constexpr int64_t kSerialWork = 32768;  // fewer elements are not worth waking a thread

// Threads that sleep until there is work. MindSpore's own pool cannot be reached from here, and OpenMP's threads spin
// against it. The pool is never destroyed: at exit, or in a forked process, there is nothing safe to join.
class Pool {
 public:
  static Pool &instance() {
    static Pool *pool = new Pool;
    return *pool;
  }

  void run(int64_t count, int64_t work, const std::function<void(int64_t)> &body) {
    std::unique_lock<std::mutex> only(running_, std::try_to_lock);
    if (!only || work < kSerialWork || threads_ == 1 || getpid() != owner_) {
      for (int64_t i = 0; i < count; i++) body(i);
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body, count_ = count, next_ = 0, generation_++;
    }
    wake_.notify_all();
    take_items(body);
    std::unique_lock<std::mutex> lock(mutex_);
    body_ = nullptr;  // who wakes only now has missed it
    done_.wait(lock, [this] { return active_ == 0; });
  }

 private:
  Pool() : owner_(getpid()) {
    // The calling thread may be bound to one core; the process as a whole counts.
    if (sched_getaffinity(owner_, sizeof cores_, &cores_) == 0) threads_ = std::max(1, CPU_COUNT(&cores_));
    for (int i = 1; i < threads_; i++) std::thread([this] { serve(); }).detach();
  }

  void serve() {
    sched_setaffinity(0, sizeof cores_, &cores_);
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return body_ && generation_ != seen; });
      seen = generation_, active_++;
      const auto &body = *body_;
      lock.unlock();
      take_items(body);
      lock.lock();
      if (--active_ == 0) done_.notify_all();
    }
  }

  void take_items(const std::function<void(int64_t)> &body) {
    for (int64_t i; (i = next_.fetch_add(1)) < count_;) body(i);
  }

  const pid_t owner_;
  cpu_set_t cores_;
  int threads_ = 1, active_ = 0;
  std::mutex running_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int64_t)> *body_ = nullptr;
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  uint64_t generation_ = 0;
};

// Loads and stores of n <= kLanes floats; where n is a constant the branch goes.
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

// x, gamma, beta, moving mean, moving variance, (eps, weight of the new statistics, slope)
// -> y, mean, 1 / standard deviation, new moving mean, new moving variance
template <class Act>
void forward(void **params, const Shape &s) {
  float **p = reinterpret_cast<float **>(params);
  const float eps = p[5][0], weight = p[5][1], negative = p[5][2];
  const double count = static_cast<double>(s.batch) * s.pixels;
  Pool::instance().run(s.channels, s.batch * s.channels * s.pixels, [&](int64_t c) {
    // Around a rough mean the squares lose nothing when the mean is subtracted from them.
    const int64_t some = std::min(s.pixels, kBlock);
    Sums rough, sums;
    add_moments(p[0] + s.plane(0, c), some, 0.f, &rough);
    const float shift = static_cast<float>(rough.first / some);
    for (int64_t b = 0; b < s.batch; b++) add_moments(p[0] + s.plane(b, c), s.pixels, shift, &sums);
    const double offset = sums.first / count, spread = sums.second / count - offset * offset;
    const double variance = spread < 0 ? 0 : spread;  // and not std::max, which would swallow a NaN
    const float mean = static_cast<float>(shift + offset), inverse = static_cast<float>(1 / std::sqrt(variance + eps));
    p[7][c] = mean, p[8][c] = inverse;
    p[9][c] = (1 - weight) * p[3][c] + weight * mean;
    const double unbiased = count > 1 ? variance * (count / (count - 1)) : variance;
    p[10][c] = (1 - weight) * p[4][c] + weight * static_cast<float>(unbiased);
    const float scale = p[1][c] * inverse, beta = p[2][c];
    for (int64_t b = 0; b < s.batch; b++) {
      const float *x = p[0] + s.plane(b, c);
      float *y = p[6] + s.plane(b, c);
      each(0, s.pixels, [&](int64_t i, int64_t n) INLINE {
        store(y + i, Act::value((load(x + i, n, mean) - mean) * scale + beta, negative), n);
      });
    }
  });
}

// dy, x, gamma, beta, mean, 1 / standard deviation, (eps, weight, slope) -> dx, dgamma, dbeta
template <class Act>
void backward(void **params, const Shape &s) {
  float **p = reinterpret_cast<float **>(params);
  const float negative = p[6][2];
  const double count = static_cast<double>(s.batch) * s.pixels;
  Pool::instance().run(s.channels, s.batch * s.channels * s.pixels, [&](int64_t c) {
    const float mean = p[4][c], inverse = p[5][c], scale = p[2][c] * inverse, beta = p[3][c];
    Sums sums;  // of dz and dz (x - mean)
    for (int64_t b = 0; b < s.batch; b++) {
      const float *dy = p[0] + s.plane(b, c), *x = p[1] + s.plane(b, c);
      float *dz = p[7] + s.plane(b, c);
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
    p[8][c] = static_cast<float>(sums.second * inverse), p[9][c] = static_cast<float>(sums.first);
    const float constant = static_cast<float>(sums.first / count);
    const float linear = static_cast<float>(sums.second / count * inverse * inverse);
    for (int64_t b = 0; b < s.batch; b++) {
      const float *x = p[1] + s.plane(b, c);
      float *dx = p[7] + s.plane(b, c);
      each(0, s.pixels, [&](int64_t i, int64_t n) INLINE {
        const Floats centred = load(dx + i, n, 0.f) - constant - (load(x + i, n, mean) - mean) * linear;
        store(dx + i, centred * scale, n);
      });
    }
  });
}

bool as_expected(int expected, int found, const int *ranks, int map, const char **types) {
  for (int i = 0; i < found; i++)
    if (std::string(types[i]) != "float32") return false;
  return found == expected && ranks[map] == 4;
}

}  // namespace

#define OPERATOR(NAME, FUNCTION, COUNT, MAP)                                                                      \
  extern "C" int NAME(int count, void **params, int *ranks, int64_t **shapes, const char **types, void *, void *) { \
    if (!as_expected(COUNT, count, ranks, MAP, types)) return 1;                                                  \
    FUNCTION(params, Shape(shapes[MAP]));                                                                         \
    return 0;                                                                                                     \
  }
#define ACTIVATION(NAME, TYPE)                        \
  OPERATOR(NAME##_forward, forward<TYPE>, 11, 0)      \
  OPERATOR(NAME##_backward, backward<TYPE>, 10, 1)
ACTIVATION(mish, Mish)
ACTIVATION(silu, Silu)
ACTIVATION(leaky, Leaky)
