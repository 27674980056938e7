/* The map of windows that overlap: of each pixel the sum over all windows that it is in, in float32; 0 where there are
 * none. No memory is allocated but a pointer to each window of a pixel, on the stack.
 */

#include "vectors.h"

typedef struct { /* as in __init__.py */
    const void *windows; /* (B, h, w, size, size, C) */
    void *out;           /* (B, H, W, C) */
    int64_t strides[3];  /* of out: image, row, column; in numbers */
    int64_t B, h, w, H, W, C, size, step;
    int64_t top, left; /* of the first window, from the map's first pixel */
    int32_t low;       /* whether both are bfloat16 instead of float32 */
} Overlap;

int64_t hat_sr_overlap_bytes(void) { return sizeof(Overlap); }

/* Windows along an axis that a pixel is in, of `count` that start at first, first + step, … */
typedef struct {
    int64_t start, stop;
} Range;

static Range windows_of(int64_t pixel, int64_t first, int64_t size, int64_t step, int64_t count) {
    int64_t past = pixel - first; /* windows before and behind: 0 <= past - step * window < size */
    int64_t start = past < size ? 0 : (past - size) / step + 1, stop = past < 0 ? 0 : past / step + 1;
    stop = least(stop, count);
    return (Range){least(start, stop), stop};
}

/* A row of the map, by runs of pixels that are in the same windows */
INLINE void add_up(int kind, const Overlap *g, int64_t b, int64_t y) {
    int64_t size = kind == FLOATS ? 4 : 2, C = g->C;
    Range rows = windows_of(y, g->top, g->size, g->step, g->h);
    for (int64_t x = 0, end; x < g->W; x = end) {
        Range columns = windows_of(x, g->left, g->size, g->step, g->w);
        for (end = x + 1; end < g->W; end++) {
            Range others = windows_of(end, g->left, g->size, g->step, g->w);
            if (others.start != columns.start || others.stop != columns.stop) break;
        }
        int64_t count = 0, most = (rows.stop - rows.start) * (columns.stop - columns.start);
        const char *windows[most + 1]; /* never of size 0 */
        for (int64_t r = rows.start; r < rows.stop; r++)
            for (int64_t c = columns.start; c < columns.stop; c++) {
                int64_t row = y - g->top - r * g->step, column = x - g->left - c * g->step;
                int64_t token = (((b * g->h + r) * g->w + c) * g->size + row) * g->size + column;
                windows[count++] = (const char *)g->windows + token * C * size;
            }
        for (int64_t i = 0; i < end - x; i++) {
            char *out = (char *)g->out + (b * g->strides[0] + y * g->strides[1] + (x + i) * g->strides[2]) * size;
            for (int64_t d = 0; d < C; d += LANES) {
                vector sum = {0};
                for (int64_t n = 0; n < count; n++) sum += load_numbers(kind, windows[n] + i * C * size, d, C);
                store_numbers(kind, out, sum, d, C);
            }
        }
    }
}

/* What is called from Python */
void hat_sr_add_windows(const Overlap *g, int num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_threads > 1)
    for (int64_t i = 0; i < g->B * g->H; i++) {
        if (g->low)
            add_up(WIDENED, g, i / g->H, i % g->H);
        else
            add_up(FLOATS, g, i / g->H, i % g->H);
    }
}
