/* What is done to every value and to every pixel, compiled: each in one pass, where torch takes several.

   The module `surgery._kernels` is built on installation where there is a C compiler, and not missed where there is
   none: `surgery/quantising.py` and `surgery/builtin/tilers.py` do the same by torch, to the bit. Compiled without
   contraction (a * b + c rounds twice, as in torch), and with finite values taken for granted: whether they are finite
   is found of their bits. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <float.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Compiled for plain x86-64 and for AVX2, and chosen when the module is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#define WIDE __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef WIDE
#define WIDE
#endif

#if defined(_MSC_VER)
#define INLINE static __forceinline
#define restrict __restrict
#else
#define INLINE static inline __attribute__((always_inline))
#endif

/* ---- values ---- */

#define LANES 64 /* values that are looked at side by side, so that none waits for the one before */

INLINE void look(float value, float *low, float *high, int32_t *magnitude)
{
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= 0x7fffffff;
    *magnitude = bits > *magnitude ? bits : *magnitude;
    *low = value < *low ? value : *low;
    *high = value > *high ? value : *high;
}

/* The least and the greatest of some values; returns whether all are finite, without which neither means anything. */
INLINE bool find_extremes(const float *restrict values, Py_ssize_t size, float *least, float *most)
{
    float low[LANES], high[LANES];
    int32_t magnitude[LANES]; /* bits without the sign: in the order of magnitudes, infinity and then NaN at the end */
    for (int lane = 0; lane < LANES; lane++) {
        low[lane] = FLT_MAX;
        high[lane] = -FLT_MAX;
        magnitude[lane] = 0;
    }
    for (Py_ssize_t start = 0; start < size; start += LANES) {
        int lanes = size - start < LANES ? (int)(size - start) : LANES;
        if (lanes == LANES)
            for (int lane = 0; lane < LANES; lane++)
                look(values[start + lane], low + lane, high + lane, magnitude + lane);
        else
            for (int lane = 0; lane < lanes; lane++)
                look(values[start + lane], low + lane, high + lane, magnitude + lane);
    }
    for (int lane = 1; lane < LANES; lane++) {
        low[0] = low[lane] < low[0] ? low[lane] : low[0];
        high[0] = high[lane] > high[0] ? high[lane] : high[0];
        magnitude[0] = magnitude[lane] > magnitude[0] ? magnitude[lane] : magnitude[0];
    }
    *least = low[0];
    *most = high[0];
    return magnitude[0] < 0x7f800000;
}

/* The whole part of (value - low) * scale + rounding, no less than 0 and no more than `top`. */
INLINE void find_codes(
    const float *restrict values, Py_ssize_t size, float low, float scale, float rounding, int top,
    uint8_t *restrict codes)
{
    const float most = top + 0.5f;
    for (Py_ssize_t i = 0; i < size; i++) {
        float level = (values[i] - low) * scale + rounding;
        level = level < 0 ? 0 : level;
        level = level > most ? most : level;
        codes[i] = (uint8_t)(int32_t)level;
    }
}

WIDE static bool extremes_of_rows(
    const float *values, Py_ssize_t rows, Py_ssize_t size, float *least, float *most)
{
    bool finite = true;
    for (Py_ssize_t row = 0; row < rows; row++)
        finite &= find_extremes(values + row * size, size, least + row, most + row);
    return finite;
}

WIDE static void codes_of_rows(
    const float *values, Py_ssize_t rows, Py_ssize_t size,
    const float *low, const float *scale, const float *rounding, int top, uint8_t *codes)
{
    for (Py_ssize_t row = 0; row < rows; row++)
        find_codes(values + row * size, size, low[row], scale[row], rounding[row], top, codes + row * size);
}

/* Have values on their way to the cache while others are worked on. */
INLINE void fetch(const float *values, Py_ssize_t count)
{
#ifdef __GNUC__
    for (Py_ssize_t i = 0; i < count; i += 64 / sizeof(float)) /* a line of the cache */
        __builtin_prefetch(values + i);
#else
    (void)values, (void)count;
#endif
}

#define STEP 256   /* values between one look ahead and the next */
#define AHEAD 2048 /* values: the next row, or more of them where they are short */

/* Both at once, a row while it is in the cache. Returns false where a row needs more than float32. */
WIDE static bool codes_between_extremes(
    const float *values, Py_ssize_t rows, Py_ssize_t size, float *least, float *most, int top, uint8_t *codes)
{
    const Py_ssize_t ahead = size > AHEAD ? size : AHEAD;
    for (Py_ssize_t row = 0; row < rows; row++) {
        if (!find_extremes(values + row * size, size, least + row, most + row))
            return false;
        float low = least[row], high = most[row];
        double span = (double)high - low;
        double scale = span == 0 ? 0 : top / span;
        if (low < -FLT_MAX / 2 || high > FLT_MAX / 2 || scale > FLT_MAX)
            return false;
        float rounding = span == 0 ? top / 2.0f + 0.5f : 0.5f;
        for (Py_ssize_t start = row * size, stop = start + size; start < stop; start += STEP) {
            Py_ssize_t count = stop - start < STEP ? stop - start : STEP;
            if (start + ahead + count <= rows * size)
                fetch(values + start + ahead, count);
            find_codes(values + start, count, low, (float)scale, rounding, top, codes + start);
        }
    }
    return true;
}

/* ---- pixels ---- */

struct grid {
    Py_ssize_t count, height, width; /* of the maps */
    Py_ssize_t columns, factor, gap;
    int background;
};

/* One line of a map, each pixel `factor` times. Returns where it ends. */
INLINE uint8_t *enlarge_by(const uint8_t *codes, Py_ssize_t width, Py_ssize_t factor, uint8_t *line)
{
    for (Py_ssize_t x = 0; x < width; x++, line += factor)
        memset(line, codes[x], factor);
    return line;
}

static uint8_t *enlarge(const uint8_t *codes, Py_ssize_t width, Py_ssize_t factor, uint8_t *line)
{
    switch (factor) { /* which the compiler makes stores of */
    case 2:
        return enlarge_by(codes, width, 2, line);
    case 4:
        return enlarge_by(codes, width, 4, line);
    case 8:
        return enlarge_by(codes, width, 8, line);
    case 16:
        return enlarge_by(codes, width, 16, line);
    default:
        return enlarge_by(codes, width, factor, line);
    }
}

/* One line of one row of tiles: of so many maps, each pixel `factor` times, with gaps between, filled up to the end. */
INLINE void lay_line(const uint8_t *codes, Py_ssize_t tiles, const struct grid *grid, uint8_t *line, Py_ssize_t length)
{
    uint8_t *end = line + length;
    for (Py_ssize_t tile = 0; tile < tiles; tile++) {
        const uint8_t *map = codes + tile * grid->height * grid->width;
        if (grid->factor == 1) {
            memcpy(line, map, grid->width);
            line += grid->width;
        } else {
            line = enlarge(map, grid->width, grid->factor, line);
        }
        for (Py_ssize_t gap = 0; gap < grid->gap && line < end; gap++)
            *line++ = (uint8_t)grid->background;
    }
    memset(line, grid->background, end - line);
}

static Py_ssize_t lines_of(const struct grid *grid)
{
    return (grid->count + grid->columns - 1) / grid->columns * (grid->height * grid->factor + grid->gap) - grid->gap;
}

static Py_ssize_t length_of(const struct grid *grid)
{
    return grid->columns * (grid->width * grid->factor + grid->gap) - grid->gap;
}

/* Each line begins with a zero, which is PNG's name for "not filtered". */
static void lay_grid(const uint8_t *codes, const struct grid *grid, uint8_t *canvas)
{
    Py_ssize_t length = length_of(grid);
    for (Py_ssize_t first = 0; first < grid->count; first += grid->columns) {
        for (Py_ssize_t gap = 0; first && gap < grid->gap; gap++, canvas += 1 + length) {
            *canvas = 0;
            memset(canvas + 1, grid->background, length);
        }
        Py_ssize_t left = grid->count - first;
        Py_ssize_t tiles = left < grid->columns ? left : grid->columns;
        const uint8_t *maps = codes + first * grid->height * grid->width;
        for (Py_ssize_t y = 0; y < grid->height; y++) {
            const uint8_t *line = canvas;
            *canvas = 0;
            lay_line(maps + y * grid->width, tiles, grid, canvas + 1, length);
            canvas += 1 + length;
            for (Py_ssize_t again = 1; again < grid->factor; again++, canvas += 1 + length)
                memcpy(canvas, line, 1 + length);
        }
    }
}

/* ---- the module ---- */

static bool refuse(bool wrong)
{
    if (wrong)
        PyErr_SetString(PyExc_ValueError, "buffers do not fit each other");
    return wrong;
}

/* extremes(values, found): least and greatest of each row, found being (2, rows). Returns whether all are finite; where
   they are not, what is found means nothing. */
static PyObject *extremes(PyObject *module, PyObject *arguments)
{
    Py_buffer values, found;
    if (!PyArg_ParseTuple(arguments, "y*w*", &values, &found))
        return NULL;
    Py_ssize_t count = values.len / sizeof(float), rows = found.len / (2 * sizeof(float));
    bool wrong = refuse(rows == 0 || count == 0 || count % rows), finite = false;
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        finite = extremes_of_rows(values.buf, rows, count / rows, found.buf, (float *)found.buf + rows);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&found);
    return wrong ? NULL : PyBool_FromLong(finite);
}

/* quantise(values, scales, codes, top): of finite values; scales are low, scale and rounding of each row, (3, rows). */
static PyObject *quantise(PyObject *module, PyObject *arguments)
{
    Py_buffer values, scales, codes;
    int top;
    if (!PyArg_ParseTuple(arguments, "y*y*w*i", &values, &scales, &codes, &top))
        return NULL;
    Py_ssize_t count = values.len / sizeof(float), rows = scales.len / (3 * sizeof(float));
    bool wrong = refuse(rows == 0 || count == 0 || count % rows || codes.len != count);
    if (!wrong) {
        const float *low = scales.buf;
        Py_BEGIN_ALLOW_THREADS
        codes_of_rows(values.buf, rows, count / rows, low, low + rows, low + 2 * rows, top, codes.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&scales);
    PyBuffer_Release(&codes);
    return wrong ? NULL : Py_NewRef(Py_None);
}

/* quantise_between_extremes(values, found, codes, top): both, low and high being a row's extremes. Returns whether that
   could be done; where it could not, nothing that was written is right. */
static PyObject *quantise_between_extremes(PyObject *module, PyObject *arguments)
{
    Py_buffer values, found, codes;
    int top;
    if (!PyArg_ParseTuple(arguments, "y*w*w*i", &values, &found, &codes, &top))
        return NULL;
    Py_ssize_t count = values.len / sizeof(float), rows = found.len / (2 * sizeof(float));
    bool wrong = refuse(rows == 0 || count == 0 || count % rows || codes.len != count), done = false;
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        done = codes_between_extremes(
            values.buf, rows, count / rows, found.buf, (float *)found.buf + rows, top, codes.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&found);
    PyBuffer_Release(&codes);
    return wrong ? NULL : PyBool_FromLong(done);
}

/* lay(codes, canvas, images, count, height, width, columns, factor, gap, background): maps in rows of `columns`, on a
   canvas that has a byte more at the start of each line. */
static PyObject *lay(PyObject *module, PyObject *arguments)
{
    Py_buffer codes, canvas;
    Py_ssize_t images;
    struct grid grid;
    if (!PyArg_ParseTuple(
            arguments, "y*w*nnnnnnni", &codes, &canvas, &images,
            &grid.count, &grid.height, &grid.width, &grid.columns, &grid.factor, &grid.gap,
            &grid.background))
        return NULL;
    bool wrong = grid.columns < 1 || grid.factor < 1 || grid.gap < 0 || images < 1 || grid.count < 1;
    Py_ssize_t drawn = grid.count * grid.height * grid.width;
    Py_ssize_t size = wrong ? 0 : lines_of(&grid) * (1 + length_of(&grid));
    wrong = wrong || drawn == 0 || codes.len != images * drawn || canvas.len != images * size;
    if (!refuse(wrong)) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t image = 0; image < images; image++)
            lay_grid((const uint8_t *)codes.buf + image * drawn, &grid, (uint8_t *)canvas.buf + image * size);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&canvas);
    return wrong ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"extremes", extremes, METH_VARARGS, NULL},
    {"quantise", quantise, METH_VARARGS, NULL},
    {"quantise_between_extremes", quantise_between_extremes, METH_VARARGS, NULL},
    {"lay", lay, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "surgery._kernels", .m_size = 0, .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__kernels(void)
{
    return PyModuleDef_Init(&definition);
}
