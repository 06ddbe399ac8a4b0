// Mish and what it is computed by, eight floats at a time.

#pragma once

#include "floats.h"

namespace {

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

}  // namespace
