/* The gradient of GELU, x (1 + erf(x / sqrt(2))) / 2, in float32: grad (P + x p), where P is the standard normal
 * distribution and p its density.
 */

#include "vectors.h"

typedef struct { /* as in __init__.py */
    const void *x, *grad;
    void *out;
    int64_t count;
    int32_t low; /* whether they are bfloat16 instead of float32 */
} Gelu;

int64_t hat_sr_gelu_bytes(void) { return sizeof(Gelu); }

/* Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: within 1.5e-7 */
INLINE vector slope(vector x) {
    vector positive = larger(x, -x);
    vector density = exponential(x * x * -0.5f, (vector){0}); /* but for its factor; it never says 0 */
    density = (vector)((ints)density & (positive < 16.0f));
    vector t = 1.0f / (1.0f + 0.231641888f * positive);      /* 0.3275911 / sqrt(2) */
    vector tail = t * 0.5307027145f - 0.726576013f; /* half of it: what lies beyond |x| */
    tail = tail * t + 0.710706871f;
    tail = tail * t - 0.142248368f;
    tail = tail * t + 0.127414796f;
    tail = tail * t * density;
    ints is_positive = x > 0;
    vector distribution = (vector)((is_positive & (ints)(1.0f - tail)) | (~is_positive & (ints)tail));
    return distribution + x * density * 0.398942280f;
}

INLINE void differentiate(int kind, const Gelu *g, int64_t start, int64_t stop) {
    for (int64_t i = start; i < stop; i += LANES) {
        vector x = load_numbers(kind, g->x, i, stop), grad = load_numbers(kind, g->grad, i, stop);
        store_numbers(kind, g->out, grad * slope(x), i, stop);
    }
}

/* What is called from Python */
void hat_sr_gelu_gradient(const Gelu *g, int num_threads) {
    int64_t part = 1 << 14;
#pragma omp parallel for num_threads(num_threads) if (num_threads > 1)
    for (int64_t start = 0; start < g->count; start += part) {
        int64_t stop = least(start + part, g->count);
        g->low ? differentiate(WIDENED, g, start, stop) : differentiate(FLOATS, g, start, stop);
    }
}
