/* Windows of a feature map: what Python hands over, and how they get into the order of reading and back.
 *
 * The queries of a block lie in the lanes of vectors, so that each lane has a softmax of its own and no sum runs across
 * lanes. Biases and masks are brought into the order of reading once for all windows.
 *
 * Letters as in hat_sr: B images, h w rows and columns of windows, K heads, N query and M key tokens, D channels of a
 * head. Words are of neighbouring channels (queries, keys) or of neighbouring keys (weights, values).
 */

#pragma once

#include "products.h"

#define QUERIES (2 * LANES)           /* of a block: two vectors */
#define KEY_ROWS (REGISTERS / 4)      /* keys whose scores are in registers at once */
#define MOST_ROWS (REGISTERS / 2 - 2) /* channels whose sums are in registers at once, at most: 6 or 14 */
#define LEAST_ROWS 4

typedef struct { /* the windows of a map, as in __init__.py */
    void *data;
    int64_t strides[3];    /* of image, row, column; in numbers */
    const int64_t *tokens; /* in bytes, from a window's first token */
} Windows;

typedef struct { /* as in __init__.py */
    Windows q, k, v, out;
    const void *bias, *masks;
    float *prepared, *sums; /* sums: (K, B, h, w, N), the logarithm of the sum of each query's e^score; or none */
    int64_t B, h, w, K, N, M, D;
    int64_t bias_strides[2], mask_strides[2]; /* of head or mask, query; in numbers */
    int32_t low, low_bias, low_masks;         /* whether q k v out, bias, masks are bfloat16 instead of float32 */
} Attention;

typedef struct { /* one head of one window */
    const char *q, *k, *v;
    char *out;
    const float *bias, *mask;
    float *sums;
} Window;

/* ---- into the order of reading, and back ---- */

/* Up to LANES tokens with up to LANES words each, turned round */
INLINE void pack_square(int kind, float *to, const char *from, const int64_t *at, int64_t tokens, int64_t words) {
    vector x[LANES];
    UNROLL for (int i = 0; i < LANES; i++) x[i] = i < tokens ? words_of(kind, from + at[i], words) : (vector){0};
    transpose(x);
    UNROLL for (int i = 0; i < LANES; i++) if (i < words) store(to + i * QUERIES, x[i]);
}

/* Tokens as lanes: (words, QUERIES), zeros after the last token. Queries, or the scores that a bias or mask adds. */
INLINE void pack_lanes(int kind, float *to, const char *from, const int64_t *at, int64_t tokens, int64_t words) {
    int64_t size = kind == WIDENED ? 2 : 4;
    for (int64_t n = 0; n < QUERIES; n += LANES)
        for (int64_t d = 0; d < words; d += LANES) {
            if (n + LANES <= tokens && d + LANES <= words)
                pack_square(kind, to + d * QUERIES + n, from + size * d, at + n, LANES, LANES);
            else
                pack_square(kind, to + d * QUERIES + n, from + size * d, at + n, tokens - n, words - d);
        }
}

/* The result of up to LANES queries and channels, turned back */
INLINE void unpack_square(int kind, char *to, const int64_t *at, const float *from, vector factor, int64_t tokens,
                          int64_t D) {
    vector x[LANES];
    UNROLL for (int i = 0; i < LANES; i++) x[i] = i < D ? load(from + i * QUERIES) * factor : (vector){0};
    transpose(x);
    UNROLL for (int i = 0; i < LANES; i++) {
        if (i >= tokens) continue;
        if (kind == FLOATS)
            store_words(to + at[i], x[i], D);
        else
            store_halves(to + at[i], x[i], D);
    }
}

/* The result of a block, (D, QUERIES), each query times its factor */
INLINE void unpack(int kind, char *to, const int64_t *at, const float *from, const vector *factors, int64_t tokens,
                   int64_t D) {
    int64_t size = kind == FLOATS ? 4 : 2;
    for (int64_t n = 0; n < tokens; n += LANES) {
        vector factor = factors[n / LANES];
        for (int64_t d = 0; d < D; d += LANES) {
            if (n + LANES <= tokens && d + LANES <= D)
                unpack_square(kind, to + size * d, at + n, from + d * QUERIES + n, factor, LANES, LANES);
            else
                unpack_square(kind, to + size * d, at + n, from + d * QUERIES + n, factor, tokens - n, D - d);
        }
    }
}

/* ---- products ---- */

/* Of the queries in the lanes with `rows` keys, over the channels: q is (words, QUERIES), k (rows, words) */
INLINE void dots(int kind, int rows, vector (*sums)[2], const float *q, const float *k, int64_t words) {
    UNROLL for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = (vector){0};
    for (int64_t d = 0; d < words; d++) {
        vector q0 = load(q + d * QUERIES), q1 = load(q + d * QUERIES + LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            sums[r][0] = multiplied(kind, sums[r][0], q0, k + r * words + d);
            sums[r][1] = multiplied(kind, sums[r][1], q1, k + r * words + d);
        }
    }
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

/* ---- windows by number ---- */

static int64_t plane_size(const Attention *a) { return (a->N + QUERIES - 1) / QUERIES * QUERIES * a->M; }

/* Windows are counted by head, then image, row, column. */
static char *place(const Attention *a, const Windows *x, int64_t i) {
    int64_t windows = a->B * a->h * a->w, head = i / windows, at = i % windows;
    int64_t b = at / (a->h * a->w), r = at / a->w % a->h, c = at % a->w, size = a->low ? 2 : 4;
    return (char *)x->data + size * (b * x->strides[0] + r * x->strides[1] + c * x->strides[2] + head * a->D);
}

static Window window_of(const Attention *a, int64_t i) {
    int64_t windows = a->B * a->h * a->w, down = i / a->w % a->h == a->h - 1, right = i % a->w == a->w - 1;
    const float *masks = a->prepared + a->K * plane_size(a);
    return (Window){
        .q = place(a, &a->q, i),
        .k = place(a, &a->k, i),
        .v = place(a, &a->v, i),
        .out = place(a, &a->out, i),
        .bias = a->prepared + i / windows * plane_size(a),
        .mask = a->masks && (down || right) ? masks + (down && right ? 2 : right) * plane_size(a) : 0,
        .sums = a->sums ? a->sums + i * a->N : 0,
    };
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
