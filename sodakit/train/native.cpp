// The two passes of an Adam update on a CPU (`update.py`), each once through memory: as ordinary tensor operations a
// chunk goes through the cache a dozen times, and 40 million elements take 0.30 s instead of 0.11 (one thread).
#include <algorithm>
#include <cmath>
#include <cstdint>

constexpr int64_t CHUNK = 1 << 14;

// Whether the update goes down the gradient. Without branches, so that the loops become vectors.
static inline int32_t agrees(float g, float m) { return ((g > 0) & (m > 0)) | ((g < 0) & (m < 0)); }

// Both moments of a chunk; how many elements of the update agree in sign with the gradient.
static int32_t moments(const float* __restrict g, float* __restrict m, float* __restrict v, int64_t count, float beta1,
                       float beta2, float of_g, float of_square) {
  int32_t agreeing = 0;
#pragma omp simd reduction(+ : agreeing)
  for (int64_t i = 0; i < count; ++i) {
    m[i] = m[i] * beta1 + g[i] * of_g;
    v[i] = v[i] * beta2 + g[i] * g[i] * of_square;
    agreeing += agrees(g[i], m[i]);
  }
  return agreeing;
}

template <bool cautious>
static void weights(float* __restrict p, const float* __restrict g, const float* __restrict m, const float* __restrict v,
                    int64_t count, float step, float shrink, float eps) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const float direction = !cautious || agrees(g[i], m[i]) ? m[i] : 0.0f;
    p[i] = p[i] * shrink - step * (direction / (std::sqrt(v[i]) + eps));
  }
}

extern "C" int64_t sodakit_moments(const float* g, float* m, float* v, int64_t count, float beta1, float beta2, float of_g,
                                   float of_square, int32_t threads) {
  int64_t agreeing = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : agreeing)
  for (int64_t at = 0; at < count; at += CHUNK)
    agreeing += moments(g + at, m + at, v + at, std::min(CHUNK, count - at), beta1, beta2, of_g, of_square);
  return agreeing;
}

// p ← p · shrink - step · mask · m / (√v + eps); the mask only if cautious.
extern "C" void sodakit_weights(float* p, const float* g, const float* m, const float* v, int64_t count, float step,
                                float shrink, float eps, int32_t cautious, int32_t threads) {
  auto chunk = cautious ? weights<true> : weights<false>;
#pragma omp parallel for num_threads(threads)
  for (int64_t at = 0; at < count; at += CHUNK)
    chunk(p + at, g + at, m + at, v + at, std::min(CHUNK, count - at), step, shrink, eps);
}
