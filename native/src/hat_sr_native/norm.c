/* Layer normalisation over the last axis, (x - mean) / sqrt(variance + eps) * weight + bias, and its gradient, in
 * float32. Rows are contiguous, one after the other; weights and biases are float32. No memory is allocated but five
 * rows on the stack.
 */

#include "vectors.h"

/* Chunks of rows add up gradients of weights and biases for themselves, then one after the other, so that the sum does
 * not depend on the number of threads. */
#define CHUNK 256 /* rows */

typedef struct { /* as in __init__.py */
    const void *x, *grad; /* (rows, C) */
    void *out;            /* (rows, C): the result, or the gradient of x */
    const float *weight, *bias;
    float *stats;   /* (rows, 2): of each the mean and 1 / sqrt(variance + eps) */
    float *partial; /* (chunks, 2, C): gradients of weight and bias; those of all are put into the first */
    int64_t rows, C;
    float eps;
    int32_t low; /* whether x, grad and out are bfloat16 instead of float32 */
} Norm;

int64_t hat_sr_norm_bytes(void) { return sizeof(Norm); }

INLINE float total(vector x) {
#if LANES == 16
    return _mm512_reduce_add_ps((__m512)x);
#else
    float out = 0;
    for (int lane = 0; lane < LANES; lane++) out += x[lane];
    return out;
#endif
}

/* The first `count` lanes, then zeros */
INLINE vector first(vector x, int64_t count) {
    ints lanes;
    UNROLL for (int lane = 0; lane < LANES; lane++) lanes[lane] = lane;
    return count >= LANES ? x : (vector)((ints)x & (lanes < (int32_t)count));
}

INLINE void normalise(int kind, const Norm *g, int64_t start, int64_t stop) {
    int64_t C = g->C, size = C * (kind == FLOATS ? 4 : 2);
    float row[C + LANES], weight[C + LANES], bias[C + LANES];
    memcpy(weight, g->weight, C * sizeof(float));
    memcpy(bias, g->bias, C * sizeof(float));
    for (int64_t i = start; i < stop; i++) {
        const char *x = (const char *)g->x + i * size;
        char *out = (char *)g->out + i * size;
        vector sum = {0}, squares = {0};
        for (int64_t d = 0; d < C; d += LANES) {
            vector a = load_numbers(kind, x, d, C);
            store(row + d, a);
            sum += a;
        }
        float mean = total(sum) / C;
        for (int64_t d = 0; d < C; d += LANES) {
            vector a = first(load(row + d) - mean, C - d);
            squares += a * a;
        }
        float inverse = 1 / sqrtf(total(squares) / C + g->eps);
        g->stats[2 * i] = mean;
        g->stats[2 * i + 1] = inverse;
        for (int64_t d = 0; d < C; d += LANES) {
            vector a = (load(row + d) - mean) * inverse;
            store_numbers(kind, out, a * load(weight + d) + load(bias + d), d, C);
        }
    }
}

INLINE void differentiate(int kind, const Norm *g, int64_t start, int64_t stop) {
    int64_t C = g->C, size = C * (kind == FLOATS ? 4 : 2);
    float normed[C + LANES], scaled[C + LANES], weight[C + LANES], grad_weight[C + LANES], grad_bias[C + LANES];
    memcpy(weight, g->weight, C * sizeof(float));
    memset(grad_weight, 0, sizeof grad_weight);
    memset(grad_bias, 0, sizeof grad_bias);
    for (int64_t i = start; i < stop; i++) {
        const char *x = (const char *)g->x + i * size, *grad = (const char *)g->grad + i * size;
        char *out = (char *)g->out + i * size;
        float mean = g->stats[2 * i], inverse = g->stats[2 * i + 1];
        vector sum = {0}, products = {0};
        for (int64_t d = 0; d < C; d += LANES) { /* beyond the last channel the gradient is 0 */
            vector a = (load_numbers(kind, x, d, C) - mean) * inverse, b = load_numbers(kind, grad, d, C);
            store(grad_weight + d, load(grad_weight + d) + a * b);
            store(grad_bias + d, load(grad_bias + d) + b);
            b = first(b * load(weight + d), C - d);
            sum += b;
            products += a * b;
            store(normed + d, a);
            store(scaled + d, b);
        }
        float level = total(sum) / C, along = total(products) / C;
        for (int64_t d = 0; d < C; d += LANES)
            store_numbers(kind, out, (load(scaled + d) - level - load(normed + d) * along) * inverse, d, C);
    }
    float *partial = g->partial + start / CHUNK * 2 * C;
    memcpy(partial, grad_weight, C * sizeof(float));
    memcpy(partial + C, grad_bias, C * sizeof(float));
}

/* ---- what is called from Python ---- */

void hat_sr_norm(const Norm *g, int num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_threads > 1)
    for (int64_t start = 0; start < g->rows; start += CHUNK) {
        int64_t stop = least(start + CHUNK, g->rows);
        g->low ? normalise(WIDENED, g, start, stop) : normalise(FLOATS, g, start, stop);
    }
}

/* In floats */
int64_t hat_sr_norm_partial_size(const Norm *g) { return (g->rows + CHUNK - 1) / CHUNK * 2 * g->C; }

void hat_sr_norm_gradient(const Norm *g, int num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_threads > 1)
    for (int64_t start = 0; start < g->rows; start += CHUNK) {
        int64_t stop = least(start + CHUNK, g->rows);
        g->low ? differentiate(WIDENED, g, start, stop) : differentiate(FLOATS, g, start, stop);
    }
    for (int64_t chunk = 1; chunk * CHUNK < g->rows; chunk++)
        for (int64_t i = 0; i < 2 * g->C; i++) g->partial[i] += g->partial[chunk * 2 * g->C + i];
}
