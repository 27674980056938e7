/* Sums of products over tokens, from memory in which tokens are rows of channels.
 *
 * Tokens lie at offsets in bytes, `at`. Words are of neighbouring channels or, as pairs of tokens, of one channel.
 */

#pragma once

#include "vectors.h"

#define TILE_ROWS (REGISTERS / 4) /* of a result, in registers at once, each of two vectors */

INLINE int64_t row_width(int64_t channels) { return (channels + LANES - 1) / LANES * LANES; }

/* The first `count` words, then zeros */
INLINE vector words_of(int kind, const char *x, int64_t count) {
    if (kind == WIDENED) return (vector)(load_halves(x, count) << 16);
    return load_words(x, count);
}

/* Tokens one by one: (tokens, width). Less than LANES words more are written. */
INLINE void pack_tokens(int kind, float *to, const char *from, const int64_t *at, int64_t tokens, int64_t words,
                        int64_t width) {
    int64_t size = kind == WIDENED ? 2 : 4;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t d = 0; d < words; d += LANES)
            WHOLE_OR_REST(store(to + t * width + d, words_of(kind, from + at[t] + size * d, count)), words - d);
}

/* Two tokens as pairs, `count` channels of them; of no second token, pairs with 0 */
INLINE void pack_pair(float *to, const char *first, const char *second, int64_t count) {
    ints lower = load_halves(first, count), upper = {0};
    if (second) upper = load_halves(second, count);
    store(to, (vector)(lower | upper << 16));
}

/* The same of 2 * LANES channels and both tokens */
INLINE void pack_whole_pair(float *to, const char *first, const char *second) {
#if LANES == 16
    wide_halves lower, upper; /* of each result, where it comes from */
    UNROLL for (int i = 0; i < 32; i++) lower[i] = i / 2 + i % 2 * 32, upper[i] = lower[i] + 16;
    __m512i a = _mm512_loadu_si512(first), b = _mm512_loadu_si512(second);
    store(to, (vector)_mm512_permutex2var_epi16(a, (__m512i)lower, b));
    store(to + LANES, (vector)_mm512_permutex2var_epi16(a, (__m512i)upper, b));
#else
    pack_pair(to, first, second, LANES);
    pack_pair(to + LANES, first + 2 * LANES, second + 2 * LANES, LANES);
#endif
}

/* Tokens as pairs: (tokens / 2, width). Less than LANES words more are written. */
INLINE void pack_pairs(float *to, const char *from, const int64_t *at, int64_t tokens, int64_t D, int64_t width) {
    for (int64_t t = 0; t < tokens; t += 2, to += width) {
        const char *first = from + at[t], *second = t + 1 < tokens ? from + at[t + 1] : 0;
        int64_t d = 0;
        if (second)
            for (; d + 2 * LANES <= D; d += 2 * LANES) pack_whole_pair(to + d, first + 2 * d, second + 2 * d);
        for (; d < D; d += LANES)
            WHOLE_OR_REST(pack_pair(to + d, first + 2 * d, second ? second + 2 * d : 0, count), D - d);
    }
}

/* Tokens as the kind wants them: (steps, width), zeros after the last token and channel */
INLINE void pack_rows(int kind, float *to, const char *from, const int64_t *at, int64_t tokens, int64_t D,
                      int64_t steps, int64_t width) {
    if (tokens < (kind == PAIRS ? 2 * steps : steps) || D < width) memset(to, 0, steps * width * sizeof(float));
    if (kind == PAIRS)
        pack_pairs(to, from, at, tokens, D, width);
    else
        pack_tokens(kind, to, from, at, tokens, D, width);
}

/* Asks for the memory of tokens before it is needed */
INLINE void fetch(const char *x, const int64_t *at, int64_t start, int64_t stop, int64_t size) {
    for (int64_t t = start; t < stop; t++) {
        for (int64_t i = 0; i < size; i += 64) __builtin_prefetch(x + at[t] + i);
        __builtin_prefetch(x + at[t] + size - 1);
    }
}

/* Adds to `rows` rows of the result, of `vectors` vectors each, the products of words p with rows of x. From one row of
 * the result to the next p moves on by `row` words, from one row of x by `step`. */
INLINE void add_tile(int kind, int rows, int vectors, float *to, const float *p, int64_t row, int64_t step,
                     const float *x, int64_t width, int64_t steps) {
    vector sums[TILE_ROWS][2];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int i = 0; i < vectors; i++) sums[r][i] = load(to + r * width + i * LANES);
    for (int64_t n = 0; n < steps; n++) {
        vector channels[2];
        UNROLL for (int i = 0; i < vectors; i++) channels[i] = load(x + n * width + i * LANES);
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int i = 0; i < vectors; i++)
                sums[r][i] = multiplied(kind, sums[r][i], channels[i], p + r * row + n * step);
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int i = 0; i < vectors; i++) store(to + r * width + i * LANES, sums[r][i]);
}

/* The same for a result of M rows of width words */
INLINE void add_products(int kind, float *to, const float *p, int64_t row, int64_t step, const float *x, int64_t M,
                         int64_t width, int64_t steps) {
#define TILE(rows, vectors)                                                                                    \
    add_tile(kind, rows, vectors, to + m * width + d, p + m * row, row, step, x + d, width, steps)
    for (int64_t d = 0; d < width; d += 2 * LANES) {
        int both = d + LANES < width;
        int64_t m = 0;
        for (; m + TILE_ROWS <= M; m += TILE_ROWS) both ? TILE(TILE_ROWS, 2) : TILE(TILE_ROWS, 1);
        for (; m < M; m++) both ? TILE(1, 2) : TILE(1, 1);
    }
#undef TILE
}
