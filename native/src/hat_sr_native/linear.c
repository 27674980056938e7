/* The gradients of a linear layer's weights and biases: of each pair of channels the sum, over all rows, of products of
 * the gradient of the result with the input; and the sum of that gradient. In float32. No memory is allocated here.
 */

#include "products.h"

#define STEPS 32 /* rows at once, or pairs of them: few, so that they stay in the first-level cache */

/* Chunks of rows add up for themselves, then one after the other, so that the sum does not depend on the number of
 * threads. */
#define MOST_CHUNKS 16
#define LEAST_CHUNK 1024 /* rows */

#define ROUND 16 /* numbers of channels are rounded up to a multiple of it in the memory of the sums, for whole tiles */

typedef struct { /* as in __init__.py */
    const void *x, *grad; /* (rows, I) and (rows, O) */
    float *weight, *bias; /* (O, I) and (O): what is wanted */
    float *partial;
    int64_t rows, I, O;
    int32_t low; /* whether x and grad are bfloat16 instead of float32 */
} Linear;

int64_t hat_sr_linear_bytes(void) { return sizeof(Linear); }

static int64_t rounded(int64_t channels) { return (channels + ROUND - 1) / ROUND * ROUND; }

static int64_t chunks_of(const Linear *g) {
    int64_t chunks = g->rows / LEAST_CHUNK;
    return chunks < 1 ? 1 : least(chunks, MOST_CHUNKS);
}

/* Of a chunk's sums: of weights, (O, I), and of biases, (O), with rounded numbers of channels */
static int64_t sums_size(const Linear *g) { return rounded(g->O) * (rounded(g->I) + 1); }

/* Of those, and of the rows in work */
static int64_t chunk_size(const Linear *g) { return sums_size(g) + STEPS * (rounded(g->O) + rounded(g->I)); }

INLINE void add_biases(int kind, float *to, const float *grad, int64_t outputs) {
    const int32_t ones = kind == PAIRS ? 0x3f803f80 : 0x3f800000; /* a word: two times 1, or 1 */
    float one;
    memcpy(&one, &ones, sizeof one);
    for (int64_t d = 0; d < outputs; d += LANES) {
        vector sum = load(to + d);
        for (int64_t n = 0; n < STEPS; n++) sum = multiplied(kind, sum, load(grad + n * outputs + d), &one);
        store(to + d, sum);
    }
}

INLINE void work(int kind, const Linear *g, int64_t start, int64_t stop, float *memory) {
    int64_t outputs = rounded(g->O), inputs = rounded(g->I), size = kind == FLOATS ? 4 : 2;
    float *weight = memory, *bias = weight + outputs * inputs, *grad = bias + outputs, *x = grad + STEPS * outputs;
    const int64_t most = kind == PAIRS ? 2 * STEPS : STEPS;
    int64_t grad_at[2 * STEPS], x_at[2 * STEPS];
    for (int64_t n = 0; n < most; n++) {
        grad_at[n] = n * g->O * size;
        x_at[n] = n * g->I * size;
    }
    memset(memory, 0, sums_size(g) * sizeof(float));
    for (int64_t first = start; first < stop; first += most) {
        int64_t rows = least(most, stop - first), next = least(most, stop - first - rows);
        const char *from_grad = (const char *)g->grad + first * g->O * size;
        const char *from_x = (const char *)g->x + first * g->I * size;
        pack_rows(kind, grad, from_grad, grad_at, rows, g->O, STEPS, outputs);
        pack_rows(kind, x, from_x, x_at, rows, g->I, STEPS, inputs);
        fetch(from_grad + rows * g->O * size, grad_at, 0, next, g->O * size);
        fetch(from_x + rows * g->I * size, x_at, 0, next, g->I * size);
        add_biases(kind, bias, grad, outputs);
        add_products(kind, weight, grad, 1, outputs, x, outputs, inputs, STEPS);
    }
}

typedef void Work(const Linear *g, int64_t start, int64_t stop, float *memory);

#define WORK(name, kind)                                                                                       \
    static void name(const Linear *g, int64_t start, int64_t stop, float *memory) {                            \
        work(kind, g, start, stop, memory);                                                                    \
    }
WORK(work_floats, FLOATS)
#if defined(__AVX512BF16__)
WORK(work_low, PAIRS)
#else
WORK(work_low, WIDENED)
#endif

/* ---- what is called from Python ---- */

/* In floats */
int64_t hat_sr_linear_partial_size(const Linear *g) { return chunks_of(g) * chunk_size(g); }

void hat_sr_linear_gradient(const Linear *g, int num_threads) {
    Work *one = g->low ? work_low : work_floats;
    int64_t chunks = chunks_of(g), size = chunk_size(g), inputs = rounded(g->I);
#pragma omp parallel for num_threads(num_threads) if (num_threads > 1) schedule(dynamic)
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        one(g, chunk * g->rows / chunks, (chunk + 1) * g->rows / chunks, g->partial + chunk * size);
    for (int64_t chunk = 1; chunk < chunks; chunk++)
        for (int64_t i = 0; i < sums_size(g); i++) g->partial[i] += g->partial[chunk * size + i];
    for (int64_t o = 0; o < g->O && inputs; o++)
        memcpy(g->weight + o * g->I, g->partial + o * inputs, g->I * sizeof(float));
    memcpy(g->bias, g->partial + rounded(g->O) * inputs, g->O * sizeof(float));
}
