/* The gradient of attention within windows: of queries, keys, values and biases, from that of the result.
 *
 * With the weights P = softmax(S) and dP = dOut V^T it is dS = P (dP - sum over keys of P dP), then dV = P^T dOut,
 * dQ = dS K / sqrt(D), dK = dS^T Q / sqrt(D), and dS summed over all windows for the biases. Scores are made again, and
 * the sums of e^score taken from the forward pass. A block of queries sees all keys of its window at once. No memory is
 * allocated here.
 */

#include <omp.h>

#include "windows.h"

/* Chunks of a head's windows add up gradients of biases for themselves, then one after the other, so that the sum does
 * not depend on the number of threads; there are fewer where the biases are many. */
#define MOST_CHUNKS 64
#define FEW_CHUNKS 4

typedef struct { /* as in __init__.py */
    Attention attention;   /* its `out` is the gradient of the result, which is read */
    Windows q, k, v;       /* gradients, which are written */
    float *partial, *bias; /* sums of chunks, (K, chunks, plane_size); and of all, (K, N, M) */
} Gradient;

int64_t hat_sr_gradient_bytes(void) { return sizeof(Gradient); }

typedef struct { /* memory to work in; widths in words */
    float *k, *v;          /* (M, words) */
    float *mixed_k;        /* as values are in the forward pass */
    float *q, *out;        /* (words, QUERIES): tokens as lanes; out is its gradient */
    float *q_rows, *out_rows; /* (QUERIES, width), or pairs of tokens, (QUERIES / 2, width) */
    float *p, *dp;         /* (M, QUERIES): weights, then their words; gradients of weights */
    float *ds, *ds_mixed;  /* words of the gradients of scores: (M, QUERIES), or fewer; as `mix` takes them */
    float *dq;             /* (mix_width, QUERIES) */
    float *dk, *dv;        /* (M, width) */
} Scratch;

/* Takes the parts from `memory`, or, of none, only counts: in floats */
static int64_t divide(const Attention *a, float *memory, Scratch *x) {
    int64_t M = a->M + 2, width = row_width(a->D), at = 0;
#define PART(name, size) x->name = memory + at, at += (size) + LANES;
    PART(k, M * a->D) PART(v, M * a->D) PART(mixed_k, M * mix_width(a->D))
    PART(q, a->D * QUERIES) PART(out, a->D * QUERIES)
    PART(q_rows, QUERIES * width) PART(out_rows, QUERIES * width)
    PART(p, M * QUERIES) PART(dp, M * QUERIES) PART(ds, M * QUERIES) PART(ds_mixed, M * QUERIES)
    PART(dq, mix_width(a->D) * QUERIES)
    PART(dk, M * width) PART(dv, M * width)
    return at;
}

/* Row m of words, of lanes that are neighbouring queries */
INLINE void put_row(int kind, float *to, int64_t m, vector a, vector b) {
    if (kind == PAIRS) {
        char *row = (char *)(to + m * QUERIES / 2);
        store_halves(row, a, LANES);
        store_halves(row + 2 * LANES, b, LANES);
    } else {
        store(to + m * QUERIES, a);
        store(to + m * QUERIES + LANES, b);
    }
}

/* Weights of `rows` keys and their gradients, and the sum of their products */
INLINE void weigh(int kind, int rows, const Scratch *x, int64_t m, int64_t words, float scale, const float *bias,
                  const float *mask, const vector *log_sums, vector *delta) {
    vector s[KEY_ROWS][2], dp[KEY_ROWS][2];
    dots(kind, rows, s, x->q, x->k + m * words, words);
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int half = 0; half < 2; half++) {
            int64_t at = (m + r) * QUERIES + half * LANES;
            vector score = s[r][half] * scale + load(bias + at);
            if (mask) score += load(mask + at);
            store(x->p + at, exponential(score, log_sums[half]));
        }
    }
    dots(kind, rows, dp, x->out, x->v + m * words, words);
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int half = 0; half < 2; half++) {
            int64_t at = (m + r) * QUERIES + half * LANES;
            store(x->dp + at, dp[r][half]);
            delta[half] += load(x->p + at) * dp[r][half];
        }
    }
}

/* Gradients of scores, added to those of biases; both they and the weights as words for the products to come */
INLINE void differentiate(int kind, const Scratch *x, int64_t M, const vector *delta, float *bias) {
    for (int64_t m = 0; m < M; m += 2) {
        vector ds[2][2] = {{{0}, {0}}, {{0}, {0}}};
        for (int64_t i = m; i < least(m + 2, M); i++) {
            vector p[2];
            for (int half = 0; half < 2; half++) {
                int64_t at = i * QUERIES + half * LANES;
                p[half] = load(x->p + at);
                ds[i - m][half] = p[half] * (load(x->dp + at) - delta[half]);
                store(bias + at, load(bias + at) + ds[i - m][half]);
            }
            put_row(kind, x->p, i, p[0], p[1]); /* never beyond what has been read */
            put_row(kind, x->ds, i, ds[i - m][0], ds[i - m][1]);
        }
        for (int half = 0; half < 2; half++) {
            float *to = x->ds_mixed + half * LANES;
            if (kind == PAIRS) {
                ints lower = (((ints)ds[0][half] + 0x8000) >> 16) & 0xffff;
                ints upper = ((ints)ds[1][half] + 0x8000) >> 16 << 16;
                store(to + m / 2 * QUERIES, (vector)(lower | upper));
            } else {
                store(to + m * QUERIES, ds[0][half]);
                if (m + 1 < M) store(to + (m + 1) * QUERIES, ds[1][half]);
            }
        }
    }
}

/* Gradients of keys or values into the map */
INLINE void put_tokens(int kind, char *to, const int64_t *at, const float *from, int64_t tokens, int64_t D,
                       float factor) {
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t d = 0; d < D; d += LANES) {
            vector x = load(from + t * row_width(D) + d) * factor;
            if (kind == FLOATS)
                WHOLE_OR_REST(store_words(to + at[t] + 4 * d, x, count), D - d);
            else
                WHOLE_OR_REST(store_halves(to + at[t] + 2 * d, x, count), D - d);
        }
}

/* One head of one window; its gradients of biases are added to `bias`, a plane */
INLINE void work(int kind, const Gradient *g, int64_t i, int64_t next, const Scratch *x, float *bias) {
    const Attention *a = &g->attention;
    Window window = window_of(a, i), following = window_of(a, next);
    int64_t N = a->N, M = a->M, D = a->D, words = kind == PAIRS ? D / 2 : D;
    int64_t rows = mix_rows(D), mixed = mix_width(D), width = row_width(D);
    const int64_t steps = kind == PAIRS ? QUERIES / 2 : QUERIES; /* rows of queries, or of pairs of them */
    float scale = 1 / sqrtf((float)D);
    int64_t size = kind == FLOATS ? 4 : 2;

    pack_tokens(kind, x->k, window.k, a->k.tokens, M, words, words);
    pack_tokens(kind, x->v, window.v, a->v.tokens, M, words, words);
    if (kind == PAIRS)
        pack_pairs(x->mixed_k, window.k, a->k.tokens, M, D, mixed);
    else
        pack_tokens(kind, x->mixed_k, window.k, a->k.tokens, M, D, mixed);
    memset(x->dk, 0, M * width * sizeof(float));
    memset(x->dv, 0, M * width * sizeof(float));
    for (int64_t n = 0; n < N; n += QUERIES) {
        int64_t tokens = least(QUERIES, N - n), m = 0;
        const float *biases = window.bias + n * M, *mask = window.mask ? window.mask + n * M : 0;
        vector log_sums[2] = {{0}, {0}}, delta[2] = {{0}, {0}}, factors[2] = {(vector){0} + scale, (vector){0} + scale};
        memcpy(log_sums, window.sums + n, tokens * sizeof(float));
        pack_lanes(kind, x->q, window.q, a->q.tokens + n, tokens, words);
        pack_lanes(kind, x->out, window.out, a->out.tokens + n, tokens, words);
        pack_rows(kind, x->q_rows, window.q, a->q.tokens + n, tokens, D, steps, width);
        pack_rows(kind, x->out_rows, window.out, a->out.tokens + n, tokens, D, steps, width);
        fetch(place(a, &g->q, i), g->q.tokens, n, n + tokens, D * size);
        fetch(following.q, a->q.tokens, n, n + tokens, D * size);
        fetch(following.out, a->out.tokens, n, n + tokens, D * size);
        fetch(following.k, a->k.tokens, n * M / N, (n + tokens) * M / N, D * size);
        fetch(following.v, a->v.tokens, n * M / N, (n + tokens) * M / N, D * size);
        fetch(place(a, &g->k, i), g->k.tokens, n * M / N, (n + tokens) * M / N, D * size);
        fetch(place(a, &g->v, i), g->v.tokens, n * M / N, (n + tokens) * M / N, D * size);
        for (; m + KEY_ROWS <= M; m += KEY_ROWS)
            weigh(kind, KEY_ROWS, x, m, words, scale, biases, mask, log_sums, delta);
        for (; m < M; m++) weigh(kind, 1, x, m, words, scale, biases, mask, log_sums, delta);
        differentiate(kind, x, M, delta, bias + n * M);
        add_products(kind, x->dv, x->p, steps, 1, x->out_rows, M, width, steps);
        add_products(kind, x->dk, x->ds, steps, 1, x->q_rows, M, width, steps);
        memset(x->dq, 0, mixed * QUERIES * sizeof(float));
        mix_all(kind, rows, x->dq, x->ds_mixed, x->mixed_k, mixed, kind == PAIRS ? (M + 1) / 2 : M);
        unpack(kind, place(a, &g->q, i), g->q.tokens + n, x->dq, factors, tokens, D);
    }
    put_tokens(kind, place(a, &g->k, i), g->k.tokens, x->dk, M, D, scale);
    put_tokens(kind, place(a, &g->v, i), g->v.tokens, x->dv, M, D, 1);
}

typedef void Work(const Gradient *g, int64_t i, int64_t next, const Scratch *x, float *bias);

#define WORK(name, kind)                                                                                       \
    static void name(const Gradient *g, int64_t i, int64_t next, const Scratch *x, float *bias) {              \
        work(kind, g, i, next, x, bias);                                                                       \
    }
WORK(work_floats, FLOATS)
WORK(work_widened, WIDENED)
#if defined(__AVX512BF16__)
WORK(work_pairs, PAIRS)
#endif

/* Of the planes of a head's chunks, for the biases in the order of Python */
static void add_up(const Gradient *g, int64_t head, int64_t chunks) {
    const Attention *a = &g->attention;
    int64_t size = plane_size(a);
    float *planes = g->partial + head * chunks * size;
    for (int64_t chunk = 1; chunk < chunks; chunk++)
        for (int64_t i = 0; i < size; i++) planes[i] += planes[chunk * size + i];
    for (int64_t n = 0; n < a->N; n++)
        for (int64_t m = 0; m < a->M; m++)
            g->bias[(head * a->N + n) * a->M + m] = planes[n / QUERIES * QUERIES * a->M + m * QUERIES + n % QUERIES];
}

/* ---- what is called from Python ---- */

static int64_t chunks_of(const Attention *a) {
    int64_t chunks = (1 << 20) / plane_size(a), windows = a->B * a->h * a->w;
    chunks = chunks < FEW_CHUNKS ? FEW_CHUNKS : least(chunks, MOST_CHUNKS);
    return least(chunks, windows);
}

/* In floats */
int64_t hat_sr_partial_size(const Attention *a) { return a->K * chunks_of(a) * plane_size(a); }

/* In floats, for each thread */
int64_t hat_sr_gradient_scratch_size(const Attention *a) {
    Scratch x;
    return divide(a, 0, &x);
}

/* All of it */
void hat_sr_gradient(const Gradient *g, float *scratch, int num_threads) {
    const Attention *a = &g->attention;
    Work *one = a->low ? work_widened : work_floats;
#if defined(__AVX512BF16__)
    if (a->low && a->D % 2 == 0) one = work_pairs;
#endif
    int64_t windows = a->B * a->h * a->w, chunks = chunks_of(a), planes = a->K + (a->masks ? 3 : 0);
    int64_t size = hat_sr_gradient_scratch_size(a);
#pragma omp parallel num_threads(num_threads) if (num_threads > 1)
    {
        int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        Scratch x;
        divide(a, scratch + thread * size, &x);
        prepare(a, thread * planes / threads, (thread + 1) * planes / threads);
#pragma omp barrier
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < a->K * chunks; task++) {
            int64_t head = task / chunks, chunk = task % chunks;
            float *bias = g->partial + task * plane_size(a);
            memset(bias, 0, plane_size(a) * sizeof(float));
            int64_t stop = head * windows + (chunk + 1) * windows / chunks;
            for (int64_t i = head * windows + chunk * windows / chunks; i < stop; i++)
                one(g, i, least(i + 1, stop - 1), &x, bias);
        }
#pragma omp for
        for (int64_t head = 0; head < a->K; head++) add_up(g, head, chunks);
    }
}
