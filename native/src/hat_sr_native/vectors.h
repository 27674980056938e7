/* Vectors of numbers: how wide they are, in memory and in arithmetic.
 *
 * A word is 32 bits: a float32, or two bfloat16 side by side where the processor multiplies such pairs (AVX512-BF16).
 * Elsewhere bfloat16 is widened to float32. For GCC and Clang: it is written in their vector extensions.
 */

#pragma once

#include <float.h>
#include <math.h>
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

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef uint16_t wide_halves __attribute__((vector_size(4 * LANES)));

/* Functions marked so are compiled anew for each `kind` and number of rows they are called with. */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { FLOATS, WIDENED, PAIRS }; /* kinds: float32; bfloat16 as float32; bfloat16 in pairs */

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
INLINE halves to_halves(vector a) {
#if defined(__AVX512BF16__)
    return (halves)_mm512_cvtneps_pbh((__m512)a);
#else
    ints bits = (ints)a;
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
#if LANES == 16
    return (halves)_mm512_cvtepi32_epi16((__m512i)bits);
#else
    return __builtin_convertvector(bits, halves);
#endif
#endif
}

INLINE void store_halves(char *x, vector a, int64_t count) {
    halves out = to_halves(a);
#if LANES == 16
    _mm256_mask_storeu_epi16(x, FIRST(count), (__m256i)out);
#else
    memcpy(x, &out, least(count, LANES) * 2);
#endif
}

/* Whole vectors and the rest are compiled apart, the whole ones without masks: `count` is a constant in them. */
#define WHOLE_OR_REST(call, left)                                                                              \
    do {                                                                                                       \
        int64_t count = (left);                                                                                \
        if (count >= LANES) {                                                                                  \
            count = LANES;                                                                                     \
            call;                                                                                              \
        } else                                                                                                 \
            call;                                                                                              \
    } while (0)

/* Numbers as they are in torch's memory, of which `kind` says whether they are bfloat16: those from d on, of C */
INLINE vector load_numbers(int kind, const char *x, int64_t d, int64_t C) {
    vector out;
    if (kind == FLOATS)
        WHOLE_OR_REST(out = load_words(x + 4 * d, count), C - d);
    else
        WHOLE_OR_REST(out = (vector)(load_halves(x + 2 * d, count) << 16), C - d);
    return out;
}

INLINE void store_numbers(int kind, char *x, vector a, int64_t d, int64_t C) {
    if (kind == FLOATS)
        WHOLE_OR_REST(store_words(x + 4 * d, a, count), C - d);
    else
        WHOLE_OR_REST(store_halves(x + 2 * d, a, count), C - d);
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

/* e^(x - most) of x that are not larger, but for rounding. Below 2^-100 it is about that: nothing beside 1, but times a
 * value no subnormal number, with which processors calculate slowly. */
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
    if (kind == PAIRS) return (vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)_mm512_set1_ps(*b));
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
