/* Attention within windows, softmax(QK^T / sqrt(D) + bias + mask) V, accumulated in float32.
 *
 * Keys are taken some at a time with a running maximum and sum, so that the scores in work stay in the first-level
 * cache. No memory is allocated here.
 */

#include <omp.h>

#include "windows.h"

#define KEYS 96 /* of a block; even */

/* Scores of `rows` keys, (rows, QUERIES), and their maximum */
INLINE void scores(int kind, int rows, float *to, const float *q, const float *k, int64_t words, float scale,
                   const float *bias, const float *mask, vector *most) {
    vector sums[KEY_ROWS][2];
    dots(kind, rows, sums, q, k, words);
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

INLINE void attend(int kind, const Attention *a, const Window *x, const Window *next, float *scratch) {
    int64_t N = a->N, M = a->M, D = a->D, words = kind == PAIRS ? D / 2 : D, rows = mix_rows(D), width = mix_width(D);
    int64_t size = kind == FLOATS ? 4 : 2;
    float scale = 1 / sqrtf((float)D);
    float *k = scratch, *v = k + M * D + LANES, *q = v + (M + 1) * width + LANES, *s = q + D * QUERIES;
    float *o = s + KEYS * QUERIES;

    pack_tokens(kind, k, x->k, a->k.tokens, M, words, words);
    if (kind == PAIRS)
        pack_pairs(v, x->v, a->v.tokens, M, D, width);
    else
        pack_tokens(kind, v, x->v, a->v.tokens, M, D, width);
    for (int64_t n = 0; n < N; n += QUERIES) {
        int64_t tokens = least(QUERIES, N - n);
        pack_lanes(kind, q, x->q, a->q.tokens + n, tokens, words);
        fetch(x->out, a->out.tokens, n, n + tokens, D * size);
        if (n + QUERIES < N)
            fetch(x->q, a->q.tokens, n + QUERIES, least(n + 2 * QUERIES, N), D * size);
        else
            fetch(next->q, a->q.tokens, 0, least(QUERIES, N), D * size);
        fetch(next->k, a->k.tokens, n * M / N, (n + tokens) * M / N, D * size);
        fetch(next->v, a->v.tokens, n * M / N, (n + tokens) * M / N, D * size);

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
        vector factors[2] = {1.0f / sums[0], 1.0f / sums[1]};
        unpack(kind, x->out, a->out.tokens + n, o, factors, tokens, D);
        for (int half = 0; x->sums && half < 2; half++)
            for (int lane = 0; lane < LANES && half * LANES + lane < tokens; lane++)
                x->sums[n + half * LANES + lane] = most[half][lane] + logf(sums[half][lane]);
    }
}

typedef void Work(const Attention *a, const Window *x, const Window *next, float *scratch);

#define WORK(name, kind)                                                                                       \
    static void name(const Attention *a, const Window *x, const Window *next, float *scratch) {                \
        attend(kind, a, x, next, scratch);                                                                     \
    }
WORK(attend_floats, FLOATS)
WORK(attend_widened, WIDENED)
#if defined(__AVX512BF16__)
WORK(attend_pairs, PAIRS)
#endif

/* ---- what is called from Python ---- */

/* In floats */
int64_t hat_sr_prepared_size(const Attention *a) { return (a->K + (a->masks ? 3 : 0)) * plane_size(a); }

/* In floats, for each thread */
int64_t hat_sr_scratch_size(const Attention *a) {
    int64_t width = mix_width(a->D);
    return (a->M + 1) * (a->D + width) + 2 * LANES + QUERIES * (a->D + KEYS + width);
}

/* Windows [start, stop) of K * B * h * w: all of a head, then the next, for its bias to stay in the cache */
static void attend_windows(const Attention *a, float *scratch, int64_t start, int64_t stop) {
    Work *work = a->low ? attend_widened : attend_floats;
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
