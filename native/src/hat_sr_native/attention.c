/* Attention within windows, softmax(QK^T / sqrt(D) + bias + mask) V, accumulated in float32.
 *
 * The queries of a block lie in the lanes of vectors, so that each lane has a softmax of its own and no sum runs across
 * lanes. Keys are taken some at a time with a running maximum and sum, so that the scores in work stay in the
 * first-level cache. Biases and masks are brought into the order of reading once for all windows. No memory is
 * allocated here.
 *
 * Letters as in hat_sr: B images, h w rows and columns of windows, K heads, N query and M key tokens, D channels of a
 * head. A word is 32 bits: a float32, or two bfloat16 of neighbouring channels (queries, keys) or of neighbouring keys
 * (weights, values) where the processor multiplies such pairs (AVX512-BF16). Elsewhere bfloat16 is widened to float32.
 *
 * For GCC and Clang: it is written in their vector extensions.
 */

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define LANES 16
#define REGISTERS 32
#elif defined(__AVX2__)
#define LANES 8
#define REGISTERS 16
#elif defined(__aarch64__)
#define LANES 4
#define REGISTERS 32
#else
#define LANES 4
#define REGISTERS 16
#endif

#define QUERIES (2 * LANES)           /* of a block: two vectors */
#define KEYS 96                       /* of a block; even */
#define KEY_ROWS (REGISTERS / 4)      /* keys whose scores are in registers at once */
#define MOST_ROWS (REGISTERS / 2 - 2) /* channels whose sums are in registers at once, at most: 6 or 14 */
#define LEAST_ROWS 4

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

/* Functions marked so are compiled anew for each `kind` and number of rows they are called with. */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { FLOATS, WIDENED, PAIRS }; /* kinds: float32; bfloat16 as float32; bfloat16 in pairs */

typedef struct { /* as in __init__.py; strides in numbers */
    const void *q, *k, *v, *bias, *masks;
    void *out;
    float *prepared;
    int64_t B, h, w, K, N, M, D;
    int64_t q_strides[3], k_strides[3], v_strides[3], out_strides[3]; /* of image, row, column */
    const int64_t *q_tokens, *k_tokens, *v_tokens, *out_tokens;       /* in bytes, from a window's first token */
    int64_t bias_strides[2], mask_strides[2];         /* of head or mask, query */
    int32_t low, low_bias, low_masks; /* whether q k v out, bias, masks are bfloat16 instead of float32 */
} Attention;

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- vectors in memory ---- */

#define FIRST(count) ((count) < LANES ? (1u << (count)) - 1 : 0xffff) /* as a mask of AVX-512 */

INLINE vector load(const float *x) {
    vector out;
    memcpy(&out, x, sizeof out);
    return out;
}

INLINE void store(float *x, vector a) { memcpy(x, &a, sizeof a); }

/* The first `count` words, then zeros */
INLINE vector load_words(const char *x, int64_t count) {
#if LANES == 16
    return (vector)_mm512_maskz_loadu_ps(FIRST(count), x);
#else
    vector out = {0};
    memcpy(&out, x, least(count, LANES) * 4);
    return out;
#endif
}

INLINE void store_words(char *x, vector a, int64_t count) {
#if LANES == 16
    _mm512_mask_storeu_ps(x, FIRST(count), (__m512)a);
#else
    memcpy(x, &a, least(count, LANES) * 4);
#endif
}

/* The first `count` bfloat16, each in the lower half of a lane, then zeros */
INLINE ints load_halves(const char *x, int64_t count) {
#if LANES == 16
    return (ints)_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(FIRST(count), x));
#else
    halves out = {0};
    memcpy(&out, x, least(count, LANES) * 2);
    return __builtin_convertvector(out, ints);
#endif
}

/* As bfloat16, rounded to the nearest, to the even one of two */
INLINE void store_halves(char *x, vector a, int64_t count) {
    ints bits = (ints)a;
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
#if LANES == 16
    _mm256_mask_storeu_epi16(x, FIRST(count), _mm512_cvtepi32_epi16((__m512i)bits));
#else
    halves out = __builtin_convertvector(bits, halves);
    memcpy(x, &out, least(count, LANES) * 2);
#endif
}

/* ---- arithmetic ---- */

/* The larger one; b where one is not a number */
INLINE vector larger(vector a, vector b) {
#if LANES == 16
    return (vector)_mm512_max_ps((__m512)a, (__m512)b);
#elif LANES == 8
    return (vector)_mm256_max_ps((__m256)a, (__m256)b);
#else
    ints is_a = a > b;
    return (vector)((is_a & (ints)a) | (~is_a & (ints)b));
#endif
}

/* e^(x - most) of x <= most. Below 2^-100 it is about that: nothing beside 1, but times a value no subnormal number,
 * with which processors calculate slowly. */
INLINE vector exponential(vector x, vector most) {
    const float shift = 12582912.0f; /* 1.5 * 2^23: a sum with it is rounded to an integer, found in its lowest bits */
    const float log2_e = 1.44269504f;
    x = larger((vector){0} - 100.0f, (x - most) * log2_e);
    vector whole = x + shift;
    vector rest = x - (whole - shift); /* in [-0.5, 0.5] */
    vector out = rest * 0.00133335581f + 0.00961812911f;
    out = out * rest + 0.0555041087f;
    out = out * rest + 0.240226507f;
    out = out * rest + 0.693147181f;
    out = out * rest + 1.0f;
    return (vector)((ints)out + ((ints)whole << 23));
}

/* sum + a * b, with one word b for all lanes */
INLINE vector multiplied(int kind, vector sum, vector a, const float *b) {
#if defined(__AVX512BF16__)
    if (kind == PAIRS) {
        int32_t pair;
        memcpy(&pair, b, sizeof pair);
        return (vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)_mm512_set1_epi32(pair));
    }
#endif
    (void)kind;
    return sum + a * *b;
}

/* Exchanges rows and lanes, by squares of 1, 2, 4, … of each. */
INLINE void transpose(vector *x) {
    UNROLL for (int step = 1; step < LANES; step *= 2) {
        UNROLL for (int i = 0; i < LANES; i++) {
            if (i & step) continue;
            vector a = x[i], b = x[i + step];
#if defined(__clang__)
            UNROLL for (int lane = 0; lane < LANES; lane++) {
                x[i][lane] = lane & step ? b[lane - step] : a[lane];
                x[i + step][lane] = lane & step ? b[lane] : a[lane + step];
            }
#else
            ints first, second;
            UNROLL for (int lane = 0; lane < LANES; lane++) {
                first[lane] = lane & step ? LANES + lane - step : lane;
                second[lane] = lane & step ? LANES + lane : lane + step;
            }
            x[i] = __builtin_shuffle(a, b, first);
            x[i + step] = __builtin_shuffle(a, b, second);
#endif
        }
    }
}

/* ---- into the order of reading, and back ---- */

/* LANES words of a token from word d on, zeros after the last */
INLINE vector token_words(int kind, const char *token, int64_t d, int64_t words) {
    if (kind == WIDENED) return (vector)(load_halves(token + 2 * d, words - d) << 16);
    return load_words(token + 4 * d, words - d);
}

/* Keys, or values that are not paired: (tokens, width). Less than LANES words more are written. */
INLINE void pack_tokens(int kind, float *to, const char *from, const int64_t *at, int64_t tokens, int64_t words,
                        int64_t width) {
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t d = 0; d < words; d += LANES)
            store(to + t * width + d, token_words(kind, from + at[t], d, words));
}

/* Values as pairs of tokens: (tokens / 2, width). Less than LANES words more are written. */
INLINE void pack_pairs(float *to, const char *from, const int64_t *at, int64_t tokens, int64_t D, int64_t width) {
    for (int64_t t = 0; t < tokens; t += 2)
        for (int64_t d = 0; d < D; d += LANES) {
            ints pair = load_halves(from + at[t] + 2 * d, D - d);
            if (t + 1 < tokens) pair |= load_halves(from + at[t + 1] + 2 * d, D - d) << 16;
            store(to + t / 2 * width + d, (vector)pair);
        }
}

/* Tokens as lanes: (words, QUERIES), zeros after the last token. Queries, or the scores that a bias or mask adds. */
INLINE void pack_lanes(int kind, float *to, const char *from, const int64_t *at, int64_t tokens, int64_t words) {
    for (int64_t n = 0; n < QUERIES; n += LANES)
        for (int64_t d = 0; d < words; d += LANES) {
            vector x[LANES];
            UNROLL for (int i = 0; i < LANES; i++)
                x[i] = n + i < tokens ? token_words(kind, from + at[n + i], d, words) : (vector){0};
            transpose(x);
            UNROLL for (int i = 0; i < LANES; i++) if (d + i < words) store(to + (d + i) * QUERIES + n, x[i]);
        }
}

/* The result of a block, (D, QUERIES), divided by the sums of the weights */
INLINE void unpack(int kind, char *to, const int64_t *at, const float *from, const vector *sums, int64_t tokens,
                   int64_t D) {
    for (int64_t n = 0; n < tokens; n += LANES) {
        vector factor = 1.0f / sums[n / LANES];
        for (int64_t d = 0; d < D; d += LANES) {
            vector x[LANES];
            UNROLL for (int i = 0; i < LANES; i++)
                x[i] = d + i < D ? load(from + (d + i) * QUERIES + n) * factor : (vector){0};
            transpose(x);
            UNROLL for (int i = 0; i < LANES; i++) {
                if (n + i >= tokens) continue;
                if (kind == FLOATS)
                    store_words(to + at[n + i] + 4 * d, x[i], D - d);
                else
                    store_halves(to + at[n + i] + 2 * d, x[i], D - d);
            }
        }
    }
}

/* Asks for the memory of tokens before it is needed */
INLINE void fetch(const char *x, const int64_t *at, int64_t start, int64_t stop, int64_t size) {
    for (int64_t t = start; t < stop; t++) {
        for (int64_t i = 0; i < size; i += 64) __builtin_prefetch(x + at[t] + i);
        __builtin_prefetch(x + at[t] + size - 1);
    }
}

/* ---- the work ---- */

/* Scores of `rows` keys, (rows, QUERIES), and their maximum */
INLINE void scores(int kind, int rows, float *to, const float *q, const float *k, int64_t words, float scale,
                   const float *bias, const float *mask, vector *most) {
    vector sums[KEY_ROWS][2];
    UNROLL for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = (vector){0};
    for (int64_t d = 0; d < words; d++) {
        vector q0 = load(q + d * QUERIES), q1 = load(q + d * QUERIES + LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            sums[r][0] = multiplied(kind, sums[r][0], q0, k + r * words + d);
            sums[r][1] = multiplied(kind, sums[r][1], q1, k + r * words + d);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int half = 0; half < 2; half++) {
            int at = r * QUERIES + half * LANES;
            vector score = sums[r][half] * scale + load(bias + at);
            if (mask) score += load(mask + at);
            most[half] = larger(score, most[half]);
            store(to + at, score);
        }
    }
}

/* Weights in the place of scores, (keys, QUERIES) or, in pairs, (keys / 2, QUERIES); adds them to the sum. `x` is one
 * of the two vectors of queries. */
INLINE vector weights(int kind, float *x, int64_t keys, vector most, vector sum) {
    if (kind == PAIRS) {
        for (int64_t m = 0; m < keys; m += 2) {
            vector first = exponential(load(x + m * QUERIES), most), second = {0};
            if (m + 1 < keys) second = exponential(load(x + (m + 1) * QUERIES), most);
            sum += first + second;
            ints lower = (((ints)first + 0x8000) >> 16) & 0xffff, upper = ((ints)second + 0x8000) >> 16 << 16;
            store(x + m / 2 * QUERIES, (vector)(lower | upper));
        }
    } else {
        for (int64_t m = 0; m < keys; m++) {
            vector weight = exponential(load(x + m * QUERIES), most);
            sum += weight;
            store(x + m * QUERIES, weight);
        }
    }
    return sum;
}

/* Adds weights * values to `rows` channels, (rows, QUERIES) */
INLINE void mix(int kind, int rows, float *to, const float *p, const float *v, int64_t width, int64_t steps) {
    vector sums[MOST_ROWS][2];
    UNROLL for (int r = 0; r < rows; r++) {
        sums[r][0] = load(to + r * QUERIES);
        sums[r][1] = load(to + r * QUERIES + LANES);
    }
    for (int64_t m = 0; m < steps; m++) {
        vector p0 = load(p + m * QUERIES), p1 = load(p + m * QUERIES + LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            sums[r][0] = multiplied(kind, sums[r][0], p0, v + m * width + r);
            sums[r][1] = multiplied(kind, sums[r][1], p1, v + m * width + r);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        store(to + r * QUERIES, sums[r][0]);
        store(to + r * QUERIES + LANES, sums[r][1]);
    }
}

/* The channels of a head are done so many at a time, as evenly as can be: HAT's 30 as 3 times 10. */
static int64_t mix_rows(int64_t D) {
    int64_t times = (D + MOST_ROWS - 1) / MOST_ROWS, rows = (D + times - 1) / times;
    return rows < LEAST_ROWS ? LEAST_ROWS : rows;
}

/* Of values, and of sums of channels, in memory */
static int64_t mix_width(int64_t D) { return (D + mix_rows(D) - 1) / mix_rows(D) * mix_rows(D); }

INLINE void mix_all(int kind, int64_t rows, float *to, const float *p, const float *v, int64_t width, int64_t steps) {
    for (int64_t d = 0; d < width; d += rows) {
        switch (rows) {
#define CASE(n) \
    case n: mix(kind, n, to + d * QUERIES, p, v + d, width, steps); break;
            CASE(4) CASE(5) CASE(6)
#if MOST_ROWS == 14
            CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
        }
    }
}

typedef struct { /* one head of one window */
    const char *q, *k, *v;
    char *out;
    const float *bias, *mask;
} Window;

INLINE void attend(int kind, const Attention *a, const Window *x, const Window *next, float *scratch) {
    int64_t N = a->N, M = a->M, D = a->D, words = kind == PAIRS ? D / 2 : D, rows = mix_rows(D), width = mix_width(D);
    int64_t size = kind == FLOATS ? 4 : 2;
    float scale = 1 / sqrtf((float)D);
    float *k = scratch, *v = k + M * D + LANES, *q = v + (M + 1) * width + LANES, *s = q + D * QUERIES;
    float *o = s + KEYS * QUERIES;

    pack_tokens(kind, k, x->k, a->k_tokens, M, words, words);
    if (kind == PAIRS)
        pack_pairs(v, x->v, a->v_tokens, M, D, width);
    else
        pack_tokens(kind, v, x->v, a->v_tokens, M, D, width);
    for (int64_t n = 0; n < N; n += QUERIES) {
        int64_t tokens = least(QUERIES, N - n);
        pack_lanes(kind, q, x->q, a->q_tokens + n, tokens, words);
        fetch(x->out, a->out_tokens, n, n + tokens, D * size);
        if (n + QUERIES < N)
            fetch(x->q, a->q_tokens, n + QUERIES, least(n + 2 * QUERIES, N), D * size);
        else
            fetch(next->q, a->q_tokens, 0, least(QUERIES, N), D * size);
        fetch(next->k, a->k_tokens, n * M / N, (n + tokens) * M / N, D * size);
        fetch(next->v, a->v_tokens, n * M / N, (n + tokens) * M / N, D * size);

        memset(o, 0, width * QUERIES * sizeof(float));
        vector most[2], sums[2] = {{0}, {0}};
        most[0] = most[1] = (vector){0} - FLT_MAX;
        for (int64_t m = 0; m < M; m += KEYS) {
            int64_t keys = least(KEYS, M - m), i = 0;
            const float *bias = x->bias + n * M + m * QUERIES, *mask = x->mask ? x->mask + n * M + m * QUERIES : 0;
            vector before[2] = {most[0], most[1]};
#define SCORES(rows)                                                                                           \
    scores(kind, rows, s + i * QUERIES, q, k + (m + i) * words, words, scale, bias + i * QUERIES,              \
           mask ? mask + i * QUERIES : 0, most)
            for (; i + KEY_ROWS <= keys; i += KEY_ROWS) SCORES(KEY_ROWS);
            for (; i < keys; i++) SCORES(1);
            for (int half = 0; half < 2; half++) {
                vector factor = exponential(before[half], most[half]);
                for (int64_t d = 0; m && d < D; d++) {
                    float *y = o + d * QUERIES + half * LANES;
                    store(y, load(y) * factor);
                }
                sums[half] = weights(kind, s + half * LANES, keys, most[half], sums[half] * factor);
            }
            if (kind == PAIRS)
                mix_all(kind, rows, o, s, v + m / 2 * width, width, (keys + 1) / 2);
            else
                mix_all(kind, rows, o, s, v + m * width, width, keys);
        }
        unpack(kind, x->out, a->out_tokens + n, o, sums, tokens, D);
    }
}

static void attend_floats(const Attention *a, const Window *x, const Window *next, float *scratch) {
    attend(FLOATS, a, x, next, scratch);
}

static void attend_widened(const Attention *a, const Window *x, const Window *next, float *scratch) {
    attend(WIDENED, a, x, next, scratch);
}

#if defined(__AVX512BF16__)
static void attend_pairs(const Attention *a, const Window *x, const Window *next, float *scratch) {
    attend(PAIRS, a, x, next, scratch);
}
#endif

/* ---- what is called from Python ---- */

static int64_t plane_size(const Attention *a) { return (a->N + QUERIES - 1) / QUERIES * QUERIES * a->M; }

/* In floats */
int64_t hat_sr_prepared_size(const Attention *a) { return (a->K + (a->masks ? 3 : 0)) * plane_size(a); }

/* In floats, for each thread */
int64_t hat_sr_scratch_size(const Attention *a) {
    int64_t width = mix_width(a->D);
    return (a->M + 1) * (a->D + width) + 2 * LANES + QUERIES * (a->D + KEYS + width);
}

/* Brings into a->prepared planes [start, stop): K biases, then 3 masks if there are masks */
static void prepare(const Attention *a, int64_t start, int64_t stop) {
    for (int64_t i = start; i < stop; i++) {
        int is_mask = i >= a->K, low = is_mask ? a->low_masks : a->low_bias, size = low ? 2 : 4;
        const int64_t *strides = is_mask ? a->mask_strides : a->bias_strides;
        const char *from = (const char *)(is_mask ? a->masks : a->bias) + (is_mask ? i - a->K : i) * strides[0] * size;
        int64_t stride = strides[1] * size;
        for (int64_t n = 0; n < a->N; n += QUERIES) {
            float *to = a->prepared + i * plane_size(a) + n * a->M;
            int64_t at[QUERIES];
            for (int64_t j = 0; j < QUERIES; j++) at[j] = (n + j) * stride;
            if (low)
                pack_lanes(WIDENED, to, from, at, least(QUERIES, a->N - n), a->M);
            else
                pack_lanes(FLOATS, to, from, at, least(QUERIES, a->N - n), a->M);
        }
    }
}

static Window window_of(const Attention *a, int64_t i) {
    int64_t windows = a->B * a->h * a->w, head = i / windows, at = i % windows;
    int64_t b = at / (a->h * a->w), r = at / a->w % a->h, c = at % a->w, size = a->low ? 2 : 4;
    int down = r == a->h - 1, right = c == a->w - 1;
    const float *masks = a->prepared + a->K * plane_size(a);
    return (Window){
#define PLACE(s) size * (b * (s)[0] + r * (s)[1] + c * (s)[2] + head * a->D)
        .q = (const char *)a->q + PLACE(a->q_strides),
        .k = (const char *)a->k + PLACE(a->k_strides),
        .v = (const char *)a->v + PLACE(a->v_strides),
        .out = (char *)a->out + PLACE(a->out_strides),
        .bias = a->prepared + head * plane_size(a),
        .mask = a->masks && (down || right) ? masks + (down && right ? 2 : right) * plane_size(a) : 0,
    };
}

/* Windows [start, stop) of K * B * h * w: all of a head, then the next, for its bias to stay in the cache */
static void attend_windows(const Attention *a, float *scratch, int64_t start, int64_t stop) {
    void (*work)(const Attention *, const Window *, const Window *, float *) = a->low ? attend_widened : attend_floats;
#if defined(__AVX512BF16__)
    if (a->low && a->D % 2 == 0) work = attend_pairs;
#endif
    for (int64_t i = start; i < stop; i++) {
        Window x = window_of(a, i), next = window_of(a, least(i + 1, stop - 1));
        work(a, &x, &next, scratch);
    }
}

/* All of it. OpenMP, because torch's threads are its too, and wait for work by turning on their processors. */
void hat_sr_attend(const Attention *a, float *scratch, int num_threads) {
    int64_t planes = a->K + (a->masks ? 3 : 0), windows = a->B * a->h * a->w * a->K, size = hat_sr_scratch_size(a);
#pragma omp parallel num_threads(num_threads) if (num_threads > 1)
    {
        int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        prepare(a, thread * planes / threads, (thread + 1) * planes / threads);
#pragma omp barrier
        attend_windows(a, scratch + thread * size, thread * windows / threads, (thread + 1) * windows / threads);
    }
}
