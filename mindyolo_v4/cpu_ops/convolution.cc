// Convolution without bias, padded by half of its square kernel, stride 1 or 2, as three ahead-of-time
// operators of MindSpore: forward, gradient of the input, gradient of the weights. Everything is
// float32, dense: maps (B, C, H, W), weights (O, C, K, K).
//
// A convolution adds products of two things: a value of the input (its pixel shifted by a tap of the
// kernel) and a vector of output channels. `product` does this for six values of the input at once; it
// finds them by their offsets in a padded copy, so that no input is unfolded in memory.
//
// The order of all sums depends on the shapes only, so results do not depend on the number of threads.

#include "floats.h"
#include "pool.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

constexpr int64_t kRows = 6;            // values of the input that meet one vector of output channels
constexpr int64_t kBlock = 2 * kLanes;  // output channels that are computed together
constexpr int64_t kFloats = 65536;      // of the padded copy that a thread works on: they stay in its cache
constexpr int64_t kPixels = 1024;       // that a thread computes at once
constexpr int64_t kPiece = 8 * kRows;   // pixels whose output is put into planes at once
constexpr int64_t kParts = 16;          // of a gradient of the weights, so that there is work for several threads

using Offsets = std::vector<int32_t>;

struct Maps {  // (images, channels, height, width)
  float *data;
  int64_t images, channels, height, width;
  Maps(void *data, const int64_t *shape)
      : data(static_cast<float *>(data)), images(shape[0]), channels(shape[1]), height(shape[2]), width(shape[3]) {}
  int64_t pixels() const { return height * width; }
  int64_t size() const { return images * channels * pixels(); }
  float *plane(int64_t image, int64_t channel) const { return data + (image * channels + channel) * pixels(); }
};

int64_t quotient_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// c[i][channel] = sum over r of values[i][offsets[r]] * b[r][channel] for kRows values
template <int kVectors>
void product(const float *const *values, const Offsets &offsets, const float *b, float *c) {
  Floats sums[kRows][kVectors] = {};
  // Named one by one, and read one after another: the compiler then needs no more than 16 registers.
  const float *v0 = values[0], *v1 = values[1], *v2 = values[2], *v3 = values[3], *v4 = values[4], *v5 = values[5];
  for (const int64_t o : offsets) {
    Floats channels[kVectors];
    for (int v = 0; v < kVectors; v++) channels[v] = load(b + v * kLanes, kLanes, 0.f);
    const float *const row[kRows] = {v0 + o, v1 + o, v2 + o, v3 + o, v4 + o, v5 + o};
    for (int i = 0; i < kRows; i++) {
      const float value = *row[i];
      for (int v = 0; v < kVectors; v++) sums[i][v] += value * channels[v];
    }
    b += kBlock;
  }
  for (int i = 0; i < kRows; i++)
    for (int v = 0; v < kVectors; v++) store(c + i * kBlock + v * kLanes, sums[i][v], kLanes);
}

// b and c have rows of kBlock channels, of which the first `channels` matter.
void product(const float *const *values, const Offsets &offsets, const float *b, int64_t channels, float *c) {
  channels > kLanes ? product<2>(values, offsets, b, c) : product<1>(values, offsets, b, c);
}

void transpose(Floats *v) {  // 8 x 8
  Floats t[kLanes];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shuffle(v[i], v[i + 1], Ints{0, 8, 2, 10, 4, 12, 6, 14});
    t[i + 1] = __builtin_shuffle(v[i], v[i + 1], Ints{1, 9, 3, 11, 5, 13, 7, 15});
  }
  for (int i : {0, 1, 4, 5}) {
    v[i] = __builtin_shuffle(t[i], t[i + 2], Ints{0, 1, 8, 9, 4, 5, 12, 13});
    v[i + 2] = __builtin_shuffle(t[i], t[i + 2], Ints{2, 3, 10, 11, 6, 7, 14, 15});
  }
  for (int i = 0; i < 4; i++) {
    const Floats low = v[i], high = v[i + 4];
    v[i] = __builtin_shuffle(low, high, Ints{0, 1, 2, 3, 8, 9, 10, 11});
    v[i + 4] = __builtin_shuffle(low, high, Ints{4, 5, 6, 7, 12, 13, 14, 15});
  }
}

// to[column][row] = from[row][column] for up to 8 x 8 values; strides in floats. It is fast for constants.
INLINE inline void transpose(const float *from, int64_t from_stride, int64_t rows, int64_t columns, float *to,
                             int64_t to_stride) {
  Floats v[kLanes] = {};
  for (int64_t i = 0; i < rows; i++) v[i] = load(from + i * from_stride, columns, 0.f);
  transpose(v);
  for (int64_t i = 0; i < columns; i++) store(to + i * to_stride, v[i], rows);
}

void transpose_all(const float *from, int64_t from_stride, int64_t rows, int64_t columns, float *to,
                   int64_t to_stride) {
  for (int64_t r = 0; r < rows; r += kLanes)
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int64_t high = std::min(kLanes, rows - r), wide = std::min(kLanes, columns - c);
      const float *source = from + r * from_stride + c;
      float *target = to + c * to_stride + r;
      if (high == kLanes && wide == kLanes) transpose(source, from_stride, kLanes, kLanes, target, to_stride);
      else transpose(source, from_stride, high, wide, target, to_stride);
    }
}

struct Band {  // some rows of one image, or some images
  int64_t image, images, row, rows;
};

// Divide maps of height x width into bands of not much more than kPixels pixels and `most_images`
// images; `row` floats of the padded copy belong to one row.
std::vector<Band> bands(int64_t images, int64_t height, int64_t width, int64_t row, int64_t most_images) {
  const int64_t most = std::max<int64_t>(1, std::min(kPixels / width, kFloats / row));  // rows
  const int64_t rows = quotient_up(height, quotient_up(height, most));
  const int64_t together = std::clamp<int64_t>(most / height, 1, most_images);
  std::vector<Band> all;
  for (int64_t image = 0; image < images; image += together)
    for (int64_t r = 0; r < height; r += rows)
      all.push_back({image, std::min(together, images - image), r, std::min(rows, height - r)});
  return all;
}

struct Tap {
  int64_t row, column;
  int64_t place;  // in the kernel
};

// A copy of some channels of a band with zeros around the image. The value that belongs to pixel p,
// channel and tap c is values[pixels[p] + taps[c]].
class Window {
 public:
  // The pixels of the band are `step` pixels of x apart; `width` is their number in a row.
  void copy(const Maps &x, int64_t first, int64_t channels, const Band &band, int64_t width, int64_t step,
            int64_t low, int64_t high) {
    const int64_t tall = (band.rows - 1) * step + high - low + 1, wide = (width - 1) * step + high - low + 1;
    const int64_t end = std::min(wide, x.width - low);  // of a row of x
    plane_ = tall * wide, wide_ = wide, low_ = low, channels_ = channels;
    values.resize(band.images * channels * plane_);
    float *to = values.data();
    for (int64_t image = band.image; image < band.image + band.images; image++)
      for (int64_t c = first; c < first + channels; c++)
        for (int64_t i = 0, y = band.row * step + low; i < tall; i++, y++, to += wide) {
          if (y < 0 || y >= x.height) {
            std::fill_n(to, wide, 0.f);
            continue;
          }
          const float *row = x.plane(image, c) + y * x.width;
          std::fill(to, to - low, 0.f);
          std::copy(row, row + end + low, to - low);
          std::fill(to + end, to + wide, 0.f);
        }

    pixels.clear();
    for (int64_t image = 0; image < band.images; image++)
      for (int64_t r = 0; r < band.rows; r++)
        for (int64_t q = 0; q < width; q++) pixels.push_back(image * channels * plane_ + (r * wide + q) * step);
  }

  void find(const std::vector<Tap> &all) {
    taps.clear();
    for (int64_t c = 0; c < channels_; c++)
      for (const Tap &tap : all) taps.push_back(c * plane_ + (tap.row - low_) * wide_ + tap.column - low_);
  }

  std::vector<float> values;
  Offsets pixels, taps;

 private:
  int64_t plane_, wide_, low_, channels_;
};

std::vector<Tap> all_taps(int64_t kernel) {
  std::vector<Tap> taps;
  for (int64_t t = 0; t < kernel * kernel; t++) taps.push_back({t / kernel - kernel / 2, t % kernel - kernel / 2, t});
  return taps;
}

// kRows values from `begin` on; the last is repeated.
void point(const float *values, const Offsets &offsets, int64_t begin, const float **to) {
  const int64_t last = static_cast<int64_t>(offsets.size()) - 1;
  for (int64_t i = 0; i < kRows; i++) to[i] = values + offsets[std::min(begin + i, last)];
}

// What the pixels (row, column) + step * (i, j) of the output are computed from.
struct Phase {
  int64_t row, column;
  std::vector<Tap> taps;
  std::vector<float> weights;  // (blocks of output channels, channels of the input, taps, kBlock)
};

// weight(output channel, channel of the input, place)
template <class Weight>
void pack(Phase *phase, int64_t outputs, int64_t inputs, Weight weight) {
  const int64_t rows = inputs * phase->taps.size();
  phase->weights.resize(quotient_up(outputs, kBlock) * rows * kBlock);
  Pool::instance().run(quotient_up(outputs, kBlock), phase->weights.size(), [&](int64_t block) {
    float *to = phase->weights.data() + block * rows * kBlock;
    for (int64_t i = 0; i < inputs; i++)
      for (const Tap &tap : phase->taps)
        for (int64_t o = block * kBlock; o < (block + 1) * kBlock; o++)
          *to++ = o < outputs ? weight(o, i, tap.place) : 0.f;
  });
}

// Copy planes (kBlock, kPiece) of the pixels [begin, end) of a band to the output, `step` pixels apart.
void paste(const float *planes, int64_t begin, int64_t end, const Band &band, int64_t width, const Phase &phase,
           int64_t step, const Maps &y, int64_t first, int64_t channels) {
  const int64_t columns = quotient_up(y.width - phase.column, step);
  for (int64_t p = begin, r = p / width; p < end; r++) {
    const int64_t column = p - r * width, next = std::min(end, (r + 1) * width);
    const int64_t row = (band.row + r) * step + phase.row, count = std::min(next - p, columns - column);
    for (int64_t c = 0; row < y.height && c < channels; c++) {
      const float *from = planes + c * kPiece + p - begin;
      float *to = y.plane(band.image, first + c) + row * y.width + phase.column + column * step;
      for (int64_t q = 0; q < count; q++) to[q * step] = from[q];
    }
    p = next;
  }
}

// Compute all pixels of y. Neighbours of one phase are y_step pixels apart there, and x_step in x; the
// taps lie within [low, high].
void correlate(const Maps &x, int64_t x_step, const std::vector<Phase> &phases, int64_t low, int64_t high,
               const Maps &y, int64_t y_step) {
  const int64_t height = quotient_up(y.height, y_step), width = quotient_up(y.width, y_step);
  const auto all = bands(y.images, height, width, x.channels * width * x_step * x_step, 1);
  Pool::instance().run(all.size(), y.size(), [&](int64_t i) {
    static thread_local Window window;
    const Band &band = all[i];
    window.copy(x, 0, x.channels, band, width, x_step, low, high);
    const int64_t pixels = window.pixels.size();
    for (const Phase &phase : phases) {
      window.find(phase.taps);
      const float *weights = phase.weights.data();
      for (int64_t o = 0; o < y.channels; o += kBlock, weights += window.taps.size() * kBlock) {
        const int64_t channels = std::min(kBlock, y.channels - o);
        for (int64_t begin = 0; begin < pixels; begin += kPiece) {
          const int64_t end = std::min(begin + kPiece, pixels);
          float sums[kPiece * kBlock], planes[kBlock * kPiece];
          for (int64_t p = begin; p < end; p += kRows) {
            const float *values[kRows];
            point(window.values.data(), window.pixels, p, values);
            product(values, window.taps, weights, channels, sums + (p - begin) * kBlock);
          }
          transpose_all(sums, kBlock, kPiece, quotient_up(channels, kLanes) * kLanes, planes, kPiece);
          paste(planes, begin, end, band, width, phase, y_step, y, o, channels);
        }
      }
    }
  });
}

// y[o](p) = sum over c and taps of w[o][c][tap] x[c](stride p + tap - kernel / 2)
void forward(const Maps &x, const float *w, const Maps &y, int64_t kernel, int64_t stride) {
  const int64_t pad = kernel / 2, area = kernel * kernel;
  std::vector<Phase> phases{{0, 0, all_taps(kernel), {}}};
  pack(&phases[0], y.channels, x.channels,
       [&](int64_t o, int64_t i, int64_t t) { return w[(o * x.channels + i) * area + t]; });
  correlate(x, stride, phases, -pad, pad, y, 1);
}

// dx[c](q) = sum over o and those taps for which q + kernel / 2 - tap = stride p, of w[o][c][tap] dy[o](p)
void input_gradient(const Maps &dy, const float *w, const Maps &dx, int64_t kernel, int64_t stride) {
  const int64_t pad = kernel / 2, area = kernel * kernel;
  std::vector<Phase> phases;
  for (int64_t row = 0; row < stride; row++)
    for (int64_t column = 0; column < stride; column++) {
      Phase phase{row, column, {}, {}};
      for (int64_t t = 0; t < area; t++) {
        const int64_t y = row + pad - t / kernel, x = column + pad - t % kernel;
        if (y % stride == 0 && x % stride == 0) phase.taps.push_back({y / stride, x / stride, t});
      }
      pack(&phase, dx.channels, dy.channels,
           [&](int64_t o, int64_t i, int64_t t) { return w[(i * dx.channels + o) * area + t]; });
      phases.push_back(phase);
    }
  correlate(dy, 1, phases, -(pad / stride), (stride - 1 + pad) / stride, dx, stride);
}

// dw[o][c][tap] = sum over images and p of dy[o](p) x[c](stride p + tap - kernel / 2)
void weights_gradient(const Maps &dy, const Maps &x, float *dw, int64_t kernel, int64_t stride) {
  const int64_t pad = kernel / 2, area = kernel * kernel, inputs = std::min(kBlock, x.channels);
  const int64_t outs = quotient_up(dy.channels, kBlock), ins = quotient_up(x.channels, inputs);
  // Long sums are fast, but there must be work for several threads.
  const int64_t together = std::max<int64_t>(1, dy.images * outs * ins / kParts);
  const auto all = bands(dy.images, dy.height, dy.width, inputs * dy.width * stride * stride, together);
  // Sums over a part of the bands, one for each task: (parts, blocks of outputs and inputs, taps, kBlock)
  const int64_t count = all.size(), parts = std::clamp<int64_t>(kParts / (outs * ins), 1, count);
  const int64_t size = (inputs * area + kRows) * kBlock;
  std::vector<float> partial(parts * outs * ins * size);
  const std::vector<Tap> taps = all_taps(kernel);

  Pool::instance().run(parts * outs * ins, x.size(), [&](int64_t task) {
    static thread_local Window window;
    static thread_local std::vector<float> gradients;
    const int64_t part = task / (outs * ins), o = task / ins % outs * kBlock, first = task % ins * inputs;
    const int64_t channels = std::min(kBlock, dy.channels - o);
    float *total = partial.data() + task * size;
    for (int64_t b = count * part / parts; b < count * (part + 1) / parts; b++) {
      const Band &band = all[b];
      window.copy(x, first, std::min(inputs, x.channels - first), band, dy.width, stride, -pad, pad);
      window.find(taps);
      const int64_t pixels = band.rows * dy.width;  // of an image
      gradients.resize(band.images * pixels * kBlock);
      for (int64_t i = 0; i < band.images; i++)
        transpose_all(dy.plane(band.image + i, o) + band.row * dy.width, dy.pixels(), channels, pixels,
                      gradients.data() + i * pixels * kBlock, kBlock);
      for (int64_t t = 0; t < static_cast<int64_t>(window.taps.size()); t += kRows) {
        const float *values[kRows];
        float sums[kRows * kBlock] = {};
        point(window.values.data(), window.taps, t, values);
        product(values, window.pixels, gradients.data(), channels, sums);
        for (int64_t i = 0; i < kRows * kBlock; i++) total[t * kBlock + i] += sums[i];
      }
    }
  });

  for (int64_t o = 0; o < dy.channels; o++)
    for (int64_t i = 0; i < x.channels; i++)
      for (int64_t t = 0; t < area; t++) {
        const int64_t block = o / kBlock * ins + i / inputs;
        float sum = 0;
        for (int64_t part = 0; part < parts; part++)
          sum += partial[(part * outs * ins + block) * size + (i % inputs * area + t) * kBlock + o % kBlock];
        *dw++ = sum;
      }
}

// 1 if a map keeps its size, otherwise 2
int64_t stride_of(const Maps &x, const Maps &y) { return x.height == y.height && x.width == y.width ? 1 : 2; }

bool fit(int count, int *ranks, const char **types, int expected) {
  const bool maps = std::all_of(ranks, ranks + count, [](int rank) { return rank == 4; });
  return count == expected && maps && all_float32(count, types);
}

}  // namespace

#define OPERATOR(NAME) \
  extern "C" int NAME(int count, void **params, int *ranks, int64_t **shapes, const char **types, void *, void *)

// x, w -> y
OPERATOR(convolution) {
  if (!fit(count, ranks, types, 3)) return 1;
  const Maps x(params[0], shapes[0]), y(params[2], shapes[2]);
  forward(x, static_cast<float *>(params[1]), y, shapes[1][2], stride_of(x, y));
  return 0;
}

// dy, x, w -> dx
OPERATOR(convolution_input_gradient) {
  if (!fit(count, ranks, types, 4)) return 1;
  const Maps dy(params[0], shapes[0]), dx(params[3], shapes[3]);
  input_gradient(dy, static_cast<float *>(params[2]), dx, shapes[2][2], stride_of(dx, dy));
  return 0;
}

// dy, x, w -> dw
OPERATOR(convolution_weights_gradient) {
  if (!fit(count, ranks, types, 4)) return 1;
  const Maps dy(params[0], shapes[0]), x(params[1], shapes[1]);
  weights_gradient(dy, x, static_cast<float *>(params[3]), shapes[2][2], stride_of(x, dy));
  return 0;
}
