// Updates of many parameters by one ahead-of-time operator of MindSpore. Everything is float32, dense.
//
// With -ffp-contract=off the results equal those of MindSpore's own operators, bit for bit. An
// operator must have an output: here it is one number without meaning.

#include "pool.h"

#include <cstring>
#include <numeric>

namespace {

using Body = std::function<void(int64_t item, int64_t size)>;

int64_t elements(int rank, const int64_t *dims) {
  return std::accumulate(dims, dims + rank, int64_t{1}, std::multiplies<int64_t>());
}

// Call the body for each of `items` tensors, the first of which is argument `first`.
void for_each_tensor(int first, int64_t items, const int *ranks, int64_t **shapes, const Body &body) {
  int64_t work = 0;
  for (int64_t k = 0; k < items; k++) work += elements(ranks[first + k], shapes[first + k]);
  Pool::instance().run(items, work, [&](int64_t k) { body(k, elements(ranks[first + k], shapes[first + k])); });
}

}  // namespace

// rate, momentum, decays (n,), n gradients, n weights, n moments; the weights and moments are updated
extern "C" int momentum(int count, void **params, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  const int64_t n = (count - 4) / 3;
  if (count != 3 * n + 4 || !all_float32(count, types)) return 1;
  float **p = reinterpret_cast<float **>(params), **gradients = p + 3, **weights = gradients + n, **moments = weights + n;
  const float rate = p[0][0], keep = p[1][0];
  for_each_tensor(3, n, ranks, shapes, [&](int64_t k, int64_t size) {
    const float decay = p[2][k], *__restrict gradient = gradients[k];
    float *__restrict weight = weights[k], *__restrict moment = moments[k];
    if (decay > 0) {
      for (int64_t i = 0; i < size; i++) moment[i] = moment[i] * keep + (weight[i] * decay + gradient[i]);
    } else {
      for (int64_t i = 0; i < size; i++) moment[i] = moment[i] * keep + gradient[i];
    }
    for (int64_t i = 0; i < size; i++) weight[i] -= rate * moment[i];
  });
  p[count - 1][0] = 0;
  return 0;
}

// decay, n values, n averages; the averages are moved towards the values
extern "C" int average(int count, void **params, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  const int64_t n = (count - 2) / 2;
  if (count != 2 * n + 2 || !all_float32(count, types)) return 1;
  float **p = reinterpret_cast<float **>(params), **values = p + 1, **averages = values + n;
  const float decay = p[0][0], rest = 1 - decay;
  for_each_tensor(1, n, ranks, shapes, [&](int64_t k, int64_t size) {
    const float *__restrict value = values[k];
    float *__restrict mean = averages[k];
    for (int64_t i = 0; i < size; i++) mean[i] = mean[i] * decay + value[i] * rest;
  });
  p[count - 1][0] = 0;
  return 0;
}

// n values, n targets; the targets become the values
extern "C" int copy(int count, void **params, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  const int64_t n = (count - 1) / 2;
  if (count != 2 * n + 1 || !all_float32(count, types)) return 1;
  for_each_tensor(0, n, ranks, shapes, [&](int64_t k, int64_t size) {
    std::memcpy(params[n + k], params[k], size * sizeof(float));
  });
  *static_cast<float *>(params[count - 1]) = 0;
  return 0;
}
