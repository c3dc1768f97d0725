// The decoding step of the model on a CPU, in one call: at batch 1 Python and torch's dispatcher would cost as much as
// the arithmetic, and torch's matrix products round a row differently in other company.
//
// Every number is summed in an order that depends on nothing but its own row and position. So a row's result is the
// same to the last bit alone, in any batch, and however its prompt was cut into calls.
//
// Vectors are GCC's and Clang's portable ones, except where noted: the compiler maps them to what the processor has.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

#include <omp.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));
typedef int8_t Bytes __attribute__((vector_size(16)));
typedef float Floats8 __attribute__((vector_size(32)));
typedef float Floats4 __attribute__((vector_size(16)));
constexpr int LANES = 16;
constexpr int PREFETCH_BYTES = 8192;  // 4 to 16 KiB ahead measure alike

struct BFloat16 {
  uint16_t bits;
};

template <class V>
static inline V load(const void* from) {
  V v;
  memcpy(&v, from, sizeof v);
  return v;
}
static inline void store(float* to, Floats v) { memcpy(to, &v, sizeof v); }

// Sixteen small whole numbers as large ones. GCC 12 would take them apart one by one.
static inline Ints widen(const int8_t* p) {
#if defined(__AVX512F__)
  return (Ints)_mm512_cvtepi8_epi32(load<__m128i>(p));
#elif defined(__AVX2__)
  __m256i parts[2] = {_mm256_cvtepi8_epi32(load<__m128i>(p)), _mm256_cvtepi8_epi32(_mm_loadl_epi64((__m128i*)(p + 8)))};
  return load<Ints>(parts);
#else
  return __builtin_convertvector(load<Bytes>(p), Ints);
#endif
}
static inline Words widen(const uint16_t* p) {
#if defined(__AVX512F__)
  return (Words)_mm512_cvtepu16_epi32(load<__m256i>(p));
#elif defined(__AVX2__)
  __m256i parts[2] = {_mm256_cvtepu16_epi32(load<__m128i>(p)), _mm256_cvtepu16_epi32(load<__m128i>(p + 8))};
  return load<Words>(parts);
#else
  return __builtin_convertvector(load<Halves>(p), Words);
#endif
}

// Sixteen numbers of any stored type, as floats.
static inline Floats expand(const float* p) { return load<Floats>(p); }
static inline Floats expand(const BFloat16* p) { return (Floats)(widen(&p->bits) << 16); }
static inline Floats expand(const int8_t* p) { return __builtin_convertvector(widen(p), Floats); }

static inline void put(float* to, float x) { *to = x; }
static inline void put(BFloat16* to, float x) {  // to the nearest, ties to even
  uint32_t bits;
  memcpy(&bits, &x, 4);
  to->bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

static inline float sum(Floats v) {
  Floats8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
              __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  Floats4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
  return (b[0] + b[2]) + (b[1] + b[3]);
}

// e^x for x <= 0, to 2 units in the last place; Cephes' polynomial.
static inline Floats exp_of(Floats x) {
  const Floats low = Floats{} - 87.0f;
  x = x < low ? low : x;
  Floats scaled = x * 1.44269504f;
  Ints whole = __builtin_convertvector(scaled - 0.5f, Ints);
  Floats n = __builtin_convertvector(whole, Floats);
  Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Floats p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return (Floats)((Ints)p + (whole << 23));
}

// ---- the shapes, as native.py lays them out ----

struct Matrix {
  const void* weight;   // rows x columns, row after row
  const float* scales;  // one per row, of int8 weights; else null
  int32_t rows, columns;
};
struct Layer {
  const float *attention_norm, *query_norm, *key_norm, *feed_forward_norm;
  Matrix query, key, value, out, gate, up, down;
};
struct Model {
  int32_t layers, width, heads, groups, head_width, feed_forward;
  float eps;
  const float *final_norm, *cos, *sin;  // the tables: positions x head_width
  const Layer* layer;
};
struct Cache {
  void *keys, *values;
  int64_t layer_stride, row_stride, group_stride;  // in numbers
};
struct Tokens {
  int32_t count;
  const int32_t *rows, *positions;
};

// ---- matrix products ----

template <class W, int M, int N>
static inline void tile(const float* x, int64_t columns, const W* w, float (&out)[M][N]) {
  Floats acc[M][N] = {};
  for (int64_t c = 0; c < columns; c += LANES) {
    // Rows of few bytes are too short for the processor to see where they lead.
    if (sizeof(W) < 4 && c % (64 / (int64_t)sizeof(W)) == 0)
      for (int n = 0; n < N; ++n) __builtin_prefetch((const char*)(w + n * columns + c) + PREFETCH_BYTES);
    Floats weights[N];
    for (int n = 0; n < N; ++n) weights[n] = expand(w + n * columns + c);
    for (int m = 0; m < M; ++m) {
      Floats at = load<Floats>(x + m * columns + c);
      for (int n = 0; n < N; ++n) acc[m][n] += at * weights[n];
    }
  }
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) out[m][n] = sum(acc[m][n]);
}

template <class W, int M, int N, class Take>
static inline void block(const float* x, int first, const Matrix& matrix, int row, Take take) {
  float out[M][N];
  tile<W, M, N>(x + (int64_t)first * matrix.columns, matrix.columns,
                (const W*)matrix.weight + (int64_t)row * matrix.columns, out);
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n)
      take(first + m, row + n, out[m][n], matrix.scales ? matrix.scales[row + n] : 1.0f);
}

// This thread's share of the rows: `take(token, row, value, scale)` for each product. Who adds the scaled value to
// something says `fma`: left to the compiler, it would round once in one tile and twice in another.
template <class W, class Take>
static void product(const float* x, int count, const Matrix& matrix, Take take) {
  const int threads = omp_get_num_threads(), thread = omp_get_thread_num();
  const int blocks = (matrix.rows + 7) / 8;
  const int begin = (int)((int64_t)blocks * thread / threads) * 8;
  const int end = std::min((int)((int64_t)blocks * (thread + 1) / threads) * 8, matrix.rows);
  int row = begin;
  for (; row + 8 <= end; row += 8) {
    int m = 0;
    for (; m + 4 <= count; m += 4) {
      block<W, 4, 4>(x, m, matrix, row, take);
      block<W, 4, 4>(x, m, matrix, row + 4, take);
    }
    for (; m < count; ++m) block<W, 1, 8>(x, m, matrix, row, take);
  }
  for (; row < end; ++row)
    for (int m = 0; m < count; ++m) block<W, 1, 1>(x, m, matrix, row, take);
}

// ---- the parts of a layer ----

static void norm(const float* x, const float* weight, int width, float eps, float* out) {
  Floats squares = {};
  for (int c = 0; c < width; c += LANES) squares += load<Floats>(x + c) * load<Floats>(x + c);
  const float scale = 1.0f / std::sqrt(sum(squares) / width + eps);
  for (int c = 0; c < width; c += LANES)
    store(out + c, load<Floats>(x + c) * scale * load<Floats>(weight + c));
}

// RMSNorm of one head, then its rotation. The sines of the first half carry a minus.
static void norm_and_turn(float* x, const float* weight, const float* cos, const float* sin, int width, float eps) {
  float normed[256];
  norm(x, weight, width, eps, normed);
  const int half = width / 2;
  for (int c = 0; c < width; ++c) x[c] = normed[c] * cos[c] + normed[c < half ? c + half : c - half] * sin[c];
}

// One query over the first `length` keys of its row. C vectors make a head.
template <class KV, int C>
static void attend(const float* query, const KV* keys, const KV* values, int length, float* scores, float* out) {
  const int width = C * LANES;
  const float scale = 1.0f / std::sqrt((float)width);
  Floats q[C];
  for (int c = 0; c < C; ++c) q[c] = load<Floats>(query + c * LANES) * scale;
  float largest = -INFINITY;
  for (int s = 0; s < length; ++s) {
    Floats acc = {};
    for (int c = 0; c < C; ++c) acc += q[c] * expand(keys + (int64_t)s * width + c * LANES);
    scores[s] = sum(acc);
    largest = scores[s] > largest ? scores[s] : largest;
  }
  const int padded = (length + LANES - 1) / LANES * LANES;
  for (int s = length; s < padded; ++s) scores[s] = -INFINITY;
  Floats total = {};
  for (int s = 0; s < padded; s += LANES) {
    Floats e = exp_of(load<Floats>(scores + s) - largest);
    if (s + LANES > length)  // e^-87 is not nothing
      for (int i = length - s; i < LANES; ++i) e[i] = 0;
    store(scores + s, e);
    total += e;
  }
  Floats acc[C] = {};
  for (int s = 0; s < length; ++s)
    for (int c = 0; c < C; ++c) acc[c] += scores[s] * expand(values + (int64_t)s * width + c * LANES);
  const float share = 1.0f / sum(total);
  for (int c = 0; c < C; ++c) store(out + c * LANES, acc[c] * share);
}

template <class KV>
static void attend_any(int vectors, const float* q, const KV* k, const KV* v, int length, float* scores, float* out) {
  switch (vectors) {
    case 2: return attend<KV, 2>(q, k, v, length, scores, out);
    case 4: return attend<KV, 4>(q, k, v, length, scores, out);
    case 6: return attend<KV, 6>(q, k, v, length, scores, out);
    case 8: return attend<KV, 8>(q, k, v, length, scores, out);
  }
}

// `for` of this thread's share of `count` things. Dealt out one by one: later positions attend to more.
template <class Do>
static void share(int count, Do what) {
  for (int i = omp_get_thread_num(); i < count; i += omp_get_num_threads()) what(i);
}

template <class W, class KV>
static void step(const Model& model, const Cache& cache, const Tokens& tokens, float* x, int threads) {
  const int count = tokens.count, width = model.width, head = model.head_width;
  const int query_width = model.heads * head, key_width = model.groups * head;
  const int heads_per_group = model.heads / model.groups;
  bool several = count > 16;  // tokens of one row, or very many rows
  for (int m = 1; m < count; ++m) several |= tokens.rows[m] <= tokens.rows[m - 1];
  int longest = 0;
  for (int m = 0; m < count; ++m) longest = std::max(longest, tokens.positions[m] + 1);
  const int padded = (longest + LANES - 1) / LANES * LANES;
  std::vector<float> all_normed((size_t)(several ? 1 : threads) * count * width),
      queries((size_t)count * query_width), keys((size_t)count * key_width),
      values((size_t)count * key_width), attended((size_t)count * query_width),
      gates((size_t)count * model.feed_forward), hidden((size_t)count * model.feed_forward),
      scores((size_t)threads * padded);

#pragma omp parallel num_threads(threads)
  for (int number = 0; number < model.layers; ++number) {
    const Layer& layer = model.layer[number];
    auto place = [&](void* base, int m, int group, int position) {
      return (KV*)base + number * cache.layer_stride + tokens.rows[m] * cache.row_stride + group * cache.group_stride +
             (int64_t)position * head;
    };
    auto into = [](std::vector<float>& out, int columns) {
      return [&out, columns](int m, int n, float value, float scale) { out[(size_t)m * columns + n] = value * scale; };
    };
    auto onto_x = [&](int m, int n, float value, float scale) {
      float& sum = x[(size_t)m * width + n];
      sum = std::fma(value, scale, sum);
    };
    // A few norms are made by every thread for itself: waiting for each other would take longer.
    float* normed = &all_normed[several ? 0 : (size_t)omp_get_thread_num() * count * width];
    auto norm_all = [&](const float* weight) {
      auto one = [&](int m) { norm(x + (size_t)m * width, weight, width, model.eps, normed + (size_t)m * width); };
      if (several) {
        share(count, one);
#pragma omp barrier
      } else {
        for (int m = 0; m < count; ++m) one(m);
      }
    };

    norm_all(layer.attention_norm);
    product<W>(normed, count, layer.query, into(queries, query_width));
    product<W>(normed, count, layer.key, into(keys, key_width));
    product<W>(normed, count, layer.value, into(values, key_width));
#pragma omp barrier
    auto keep = [&](int i) {
      const int m = i / model.groups, group = i % model.groups, position = tokens.positions[m];
      const float *cos = model.cos + (int64_t)position * head, *sin = model.sin + (int64_t)position * head;
      float *k = &keys[(size_t)i * head], *v = &values[(size_t)i * head];
      norm_and_turn(k, layer.key_norm, cos, sin, head, model.eps);
      KV *kept_k = place(cache.keys, m, group, position), *kept_v = place(cache.values, m, group, position);
      for (int c = 0; c < head; ++c) put(kept_k + c, k[c]), put(kept_v + c, v[c]);
    };
    auto look = [&](int i) {
      const int m = i / model.groups, group = i % model.groups, position = tokens.positions[m];
      const float *cos = model.cos + (int64_t)position * head, *sin = model.sin + (int64_t)position * head;
      for (int n = group * heads_per_group; n < (group + 1) * heads_per_group; ++n) {
        float* query = &queries[((size_t)m * model.heads + n) * head];
        norm_and_turn(query, layer.query_norm, cos, sin, head, model.eps);
        attend_any(head / LANES, query, place(cache.keys, m, group, 0), place(cache.values, m, group, 0), position + 1,
                   &scores[(size_t)omp_get_thread_num() * padded], &attended[((size_t)m * model.heads + n) * head]);
      }
    };
    if (several) {  // tokens of one row look at each other's keys: all must be there first
      share(count * model.groups, keep);
#pragma omp barrier
      share(count * model.groups, look);
    } else {
      share(count * model.groups, [&](int i) { keep(i), look(i); });
    }
#pragma omp barrier
    product<W>(attended.data(), count, layer.out, onto_x);
#pragma omp barrier
    norm_all(layer.feed_forward_norm);
    // A thread's rows of `gate` and `up` are the same rows, so it may join them without waiting.
    product<W>(normed, count, layer.gate, into(gates, model.feed_forward));
    product<W>(normed, count, layer.up, [&](int m, int n, float value, float scale) {
      const size_t i = (size_t)m * model.feed_forward + n;
      hidden[i] = gates[i] / (1.0f + std::exp(-gates[i])) * (value * scale);
    });
#pragma omp barrier
    product<W>(hidden.data(), count, layer.down, onto_x);
#pragma omp barrier
  }
  for (int m = 0; m < count; ++m) {
    float* row = x + (size_t)m * width;
    norm(row, model.final_norm, width, model.eps, row);
  }
}

template <class W>
static void linear(const Matrix& matrix, int count, const float* x, float* out, int threads) {
#pragma omp parallel num_threads(threads)
  product<W>(x, count, matrix, [&](int m, int n, float value, float scale) {
    out[(size_t)m * matrix.rows + n] = value * scale;
  });
}

// ---- choices, as `generate/sampling.py` defines them ----

struct Sampling {
  float temperature, top_p;
  int32_t top_k;
};

// Scores in order, the best first and equal ones by place, as far as it is needed. They are dealt into buckets of like
// score, and only the bucket in which a sum is reached is sorted.
struct Ranking {
  static constexpr int BUCKETS = 256;
  static constexpr float DEEPEST = 30.0f;  // below the best: nothing further down has weight
  const float* scores;
  std::vector<int> order, bucket, members;
  std::vector<float> weight;
  double sums[BUCKETS];
  int last;  // the last bucket with something in it

  bool before(int a, int b) const { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; }

  // Takes up the first `most` of `count` scores over a temperature, `largest` being the best of them.
  void deal(int count, int most, float temperature, float largest) {
    const int padded = (count + LANES - 1) / LANES * LANES;
    order.resize(count), bucket.resize(count), weight.assign(padded, -INFINITY);
    for (int i = 0; i < count; ++i) order[i] = i, weight[i] = scores[i] / temperature - largest;
    if (most < count)
      std::nth_element(order.begin(), order.begin() + most, order.end(), [&](int a, int b) { return before(a, b); });
    order.resize(most);
    float depth = 0;
    for (int i = 0; i < count; ++i) depth = std::max(depth, std::min(-weight[i], DEEPEST));
    const float scale = depth > 0 ? (BUCKETS - 1) / depth : 0;
    for (int i = 0; i < count; ++i) bucket[i] = (int)(std::min(-weight[i], depth) * scale);
    for (int i = 0; i < padded; i += LANES) store(&weight[i], exp_of(load<Floats>(&weight[i])));
    std::fill(sums, sums + BUCKETS, 0.0), last = 0;
    for (int i : order) sums[bucket[i]] += weight[i], last = std::max(last, bucket[i]);
  }

  // The place at which the weights, in order, sum up to `target`, or to more than it if `beyond`; and that sum.
  std::pair<int, double> reach(double target, bool beyond) {
    auto reached = [&](double sum) { return beyond ? sum > target : sum >= target; };
    double sum = 0;
    int at = 0;
    for (; at < last && !reached(sum + sums[at]); ++at) sum += sums[at];
    members.clear();
    for (int i : order)
      if (bucket[i] == at) members.push_back(i);
    std::sort(members.begin(), members.end(), [&](int a, int b) { return before(a, b); });
    size_t n = 0;
    while (sum += weight[members[n]], !reached(sum) && n + 1 < members.size()) ++n;
    return {members[n], sum};
  }
};

// The place of the choice among `count` scores, by a number in [0, 1); -1 where they are no numbers.
static int choose(const float* scores, int count, double uniform, const Sampling& how, Ranking& ranking) {
  int best = 0;
  bool numbers = true;
  for (int i = 0; i < count; ++i) {
    numbers &= scores[i] == scores[i];
    best = scores[i] > scores[best] ? i : best;
  }
  if (!numbers || !std::isfinite(scores[best])) return -1;
  // Below it quotients are beyond float32, and a share that is nothing in 32 bits keeps the likeliest.
  if (how.temperature < 1e-30f || how.top_p < 1e-30f) return best;
  const int most = how.top_k > 0 ? std::min(how.top_k, count) : count;
  ranking.scores = scores;
  ranking.deal(count, most, how.temperature, scores[best] / how.temperature);
  double kept = 0;
  for (int b = 0; b <= ranking.last; ++b) kept += ranking.sums[b];
  // An id stays if those before it have not reached top_p yet.
  if (how.top_p < 1) kept = ranking.reach(how.top_p * kept, false).second;
  return ranking.reach(std::min(uniform * kept, std::nextafter(kept, 0.0)), true).first;
}

// ---- the codes inside a frame ----

struct Frame {
  Model depth;
  Matrix project, head;
  const float* embedding;  // of every code: codebooks x size, width of the depth decoder
  int32_t codebooks, size;
  int32_t sums, shifted;  // fed the sum of the codes so far; a slot does not see the code before its own
};

// Codes 1 … K-1 of a frame for each row, after its state and its first code (-1 for none), which stand in `codes`.
template <class W, class KV>
static bool frame(const Frame& f, const Cache& cache, int count, const float* states, int64_t* codes,
                  const double* uniforms, const Sampling* how, int threads) {
  const int width = f.depth.width, books = f.codebooks, size = f.size;
  std::vector<float> base((size_t)count * width), known((size_t)count * width), next((size_t)count * width),
      x((size_t)count * width), logits((size_t)count * size);
  std::vector<int32_t> rows(count), positions(count);
  Ranking ranking;
  for (int b = 0; b < count; ++b) rows[b] = b;
  linear<W>(f.project, count, states, base.data(), threads);
  for (int k = 1; k < books; ++k) {
    for (int b = 0; b < count; ++b) {  // what the code before tells, for this slot or (shifted) for the next one
      const int64_t code = codes[(size_t)b * books + k - 1];
      const float* row = code < 0 ? nullptr : f.embedding + ((k - 1) * (int64_t)size + code) * width;
      float *fed = &known[(size_t)b * width], *later = &next[(size_t)b * width];
      if (f.shifted) memcpy(fed, later, width * sizeof *fed);
      float* into = f.shifted ? later : fed;
      for (int c = 0; c < width; ++c) into[c] = (f.sums ? into[c] : 0.0f) + (row ? row[c] : 0.0f);
      positions[b] = k - 1;
      for (int c = 0; c < width; ++c) x[(size_t)b * width + c] = base[(size_t)b * width + c] + fed[c];
    }
    step<W, KV>(f.depth, cache, Tokens{count, rows.data(), positions.data()}, x.data(), threads);
    Matrix head = f.head;
    const int64_t first = (int64_t)(k - 1) * size;
    head.weight = (const W*)head.weight + first * head.columns;
    head.scales = head.scales ? head.scales + first : nullptr;
    head.rows = size;
    linear<W>(head, count, x.data(), logits.data(), threads);
    for (int b = 0; b < count; ++b) {
      const double uniform = uniforms[(size_t)b * (books - 1) + k - 1];
      const int code = choose(&logits[(size_t)b * size], size, uniform, how[k - 1], ranking);
      if (code < 0) return false;
      codes[(size_t)b * books + k] = code;
    }
  }
  return true;
}

// ---- what native.py calls; kinds: 0 float32, 1 bfloat16, 2 int8 ----

extern "C" void sodakit_step(const Model* model, const Cache* cache, const Tokens* tokens, int weights, int kept, float* x,
                             int threads) {
  auto run = [&](auto weight) {
    using W = decltype(weight);
    kept ? step<W, BFloat16>(*model, *cache, *tokens, x, threads) : step<W, float>(*model, *cache, *tokens, x, threads);
  };
  weights == 0 ? run(float()) : weights == 1 ? run(BFloat16()) : run(int8_t());
}

extern "C" void sodakit_linear(const Matrix* matrix, int weights, int count, const float* x, float* out, int threads) {
  weights == 0   ? linear<float>(*matrix, count, x, out, threads)
  : weights == 1 ? linear<BFloat16>(*matrix, count, x, out, threads)
                 : linear<int8_t>(*matrix, count, x, out, threads);
}

// 0 where the scores are no numbers.
extern "C" int32_t sodakit_frame(const Frame* depth, const Cache* cache, int weights, int kept, int count,
                                 const float* states, int64_t* codes, const double* uniforms, const Sampling* how,
                                 int threads) {
  auto run = [&](auto weight) {
    using W = decltype(weight);
    return kept ? frame<W, BFloat16>(*depth, *cache, count, states, codes, uniforms, how, threads)
                : frame<W, float>(*depth, *cache, count, states, codes, uniforms, how, threads);
  };
  return weights == 0 ? run(float()) : weights == 1 ? run(BFloat16()) : run(int8_t());
}

extern "C" void sodakit_choose(const float* scores, int32_t rows, int32_t count, const double* uniforms,
                               const Sampling* how, int64_t* places) {
  Ranking ranking;
  for (int b = 0; b < rows; ++b) places[b] = choose(scores + (int64_t)b * count, count, uniforms[b], *how, ranking);
}
