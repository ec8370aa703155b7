/* What is done to every value and to every pixel, compiled: each in one pass, where torch takes several.

   The module `surgery.drawing._kernels` is built on installation where there is a C compiler, and not missed where there is
   none: `surgery/quantising.py` and `surgery/tiling.py` do the same by torch, to the bit. Compiled without
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

/* ---- where pixels lie ---- */

/* Pictures of `count` maps each: in rows of `columns`, with gaps between, filled up with background. Each line has so
   many zeros before it (`lead`): one is PNG's name for a line that is not filtered. */
struct grid {
    Py_ssize_t count, height, width; /* of the maps */
    Py_ssize_t columns, factor, gap, lead;
    int background;
};

static Py_ssize_t length_of(const struct grid *grid)
{
    return grid->columns * (grid->width * grid->factor + grid->gap) - grid->gap;
}

static Py_ssize_t lines_of(const struct grid *grid)
{
    return (grid->count + grid->columns - 1) / grid->columns * (grid->height * grid->factor + grid->gap) - grid->gap;
}

/* Background from here to there; returns where that is. */
INLINE uint8_t *fill(uint8_t *line, uint8_t *end, int background)
{
    memset(line, background, end - line);
    return end;
}

/* Lines without a map. */
INLINE uint8_t *fill_lines(uint8_t *line, Py_ssize_t count, const struct grid *grid)
{
    for (Py_ssize_t y = 0; y < count; y++) {
        memset(line, 0, grid->lead);
        line = fill(line + grid->lead, line + grid->lead + length_of(grid), grid->background);
    }
    return line;
}

/* ---- values ---- */

struct scale {
    float low, scale, rounding;
};

struct seen {
    float low, high;
    int32_t magnitude; /* bits without the sign: in the order of magnitudes, infinity and then NaN at the end */
};

INLINE void look(float value, struct seen *seen)
{
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= 0x7fffffff;
    seen->magnitude = bits > seen->magnitude ? bits : seen->magnitude;
    seen->low = value < seen->low ? value : seen->low;
    seen->high = value > seen->high ? value : seen->high;
}

INLINE struct seen both(struct seen one, struct seen other)
{
    one.magnitude = other.magnitude > one.magnitude ? other.magnitude : one.magnitude;
    one.low = other.low < one.low ? other.low : one.low;
    one.high = other.high > one.high ? other.high : one.high;
    return one;
}

/* The least and the greatest of some values; returns whether all are finite, without which neither means anything.
   Four parts are looked through side by side, so that none waits for the one before; all of it stays in registers. */
INLINE bool find_extremes(const float *restrict values, Py_ssize_t size, float *least, float *most)
{
    struct seen a = {FLT_MAX, -FLT_MAX, 0}, b = a, c = a, d = a;
    const Py_ssize_t part = size / 4;
    for (Py_ssize_t i = 0; i < part; i++) {
        look(values[i], &a);
        look(values[part + i], &b);
        look(values[2 * part + i], &c);
        look(values[3 * part + i], &d);
    }
    for (Py_ssize_t i = 4 * part; i < size; i++)
        look(values[i], &a);
    a = both(both(a, b), both(c, d));
    *least = a.low;
    *most = a.high;
    return a.magnitude < 0x7f800000;
}

/* The whole part of (value - low) * scale + rounding; where it may lie `outside`, no less than 0 and no more than
   `top`. */
INLINE void find_codes(
    const float *restrict values, Py_ssize_t size, struct scale scale, bool outside, int top, uint8_t *restrict codes)
{
    const float most = top + 0.5f;
    for (Py_ssize_t i = 0; i < size; i++) {
        float level = (values[i] - scale.low) * scale.scale + scale.rounding;
        if (outside) {
            level = level < 0 ? 0 : level;
            level = level > most ? most : level;
        }
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
#define AHEAD 2048 /* values: the next map, or more of them where they are short */

/* The codes of one map, where they lie in its picture: the `number`-th there. Its row's gaps are filled with it. `left`
   is how many values there are from its first on, to be fetched. */
INLINE void lay_codes(
    const float *values, Py_ssize_t left, struct scale scale, bool outside, int top, Py_ssize_t number,
    const struct grid *grid, uint8_t *picture)
{
    const Py_ssize_t height = grid->height, width = grid->width, size = height * width;
    const Py_ssize_t ahead = size > AHEAD ? size : AHEAD, stride = grid->lead + length_of(grid);
    const Py_ssize_t row = number / grid->columns, column = number % grid->columns;
    const bool last = column + 1 == grid->columns || number + 1 == grid->count;
    uint8_t *line = picture + row * (height + grid->gap) * stride;
    if (row && !column)
        fill_lines(line - grid->gap * stride, grid->gap, grid);
    for (Py_ssize_t y = 0; y < height; y++, line += stride, values += width, left -= width) {
        uint8_t *codes = line + grid->lead + column * (width + grid->gap);
        for (Py_ssize_t start = 0; start < width; start += STEP) {
            Py_ssize_t count = width - start < STEP ? width - start : STEP;
            if (start + ahead + count <= left)
                fetch(values + start + ahead, count);
            find_codes(values + start, count, scale, outside, top, codes + start);
        }
        if (!column)
            memset(line, 0, grid->lead);
        fill(codes + width, last ? line + stride : codes + width + grid->gap, grid->background);
    }
}

INLINE uint8_t *picture_of(Py_ssize_t map, const struct grid *grid, uint8_t *pictures)
{
    return pictures + map / grid->count * lines_of(grid) * (grid->lead + length_of(grid));
}

WIDE static void codes_of_maps(
    const float *values, Py_ssize_t maps, const float *low, const float *scale, const float *rounding, int top,
    const struct grid *grid, uint8_t *pictures)
{
    const Py_ssize_t size = grid->height * grid->width;
    for (Py_ssize_t map = 0; map < maps; map++) {
        struct scale found = {low[map], scale[map], rounding[map]};
        lay_codes(
            values + map * size, (maps - map) * size, found, true, top, map % grid->count, grid,
            picture_of(map, grid, pictures));
    }
}

/* Both at once, a map while it is in the cache. Returns false where one needs more than float32. */
WIDE static bool codes_between_extremes(
    const float *values, Py_ssize_t maps, float *least, float *most, int top, const struct grid *grid,
    uint8_t *pictures)
{
    const Py_ssize_t size = grid->height * grid->width;
    for (Py_ssize_t map = 0; map < maps; map++) {
        if (!find_extremes(values + map * size, size, least + map, most + map))
            return false;
        float low = least[map], high = most[map];
        double span = (double)high - low;
        double scale = span == 0 ? 0 : top / span;
        if (low < -FLT_MAX / 2 || high > FLT_MAX / 2 || scale > FLT_MAX)
            return false;
        struct scale found = {low, (float)scale, span == 0 ? top / 2.0f + 0.5f : 0.5f};
        lay_codes(
            values + map * size, (maps - map) * size, found, false, top, map % grid->count, grid,
            picture_of(map, grid, pictures));
    }
    return true;
}

/* ---- codes that are there ---- */

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

/* One line of one row of tiles: of so many maps, each pixel `factor` times. */
INLINE void lay_line(const uint8_t *codes, Py_ssize_t tiles, const struct grid *grid, uint8_t *line, uint8_t *end)
{
    for (Py_ssize_t tile = 0; tile < tiles; tile++) {
        const uint8_t *map = codes + tile * grid->height * grid->width;
        if (grid->factor == 1) {
            memcpy(line, map, grid->width);
            line += grid->width;
        } else {
            line = enlarge(map, grid->width, grid->factor, line);
        }
        if (line < end)
            line = fill(line, line + grid->gap, grid->background);
    }
    fill(line, end, grid->background);
}

static void lay_picture(const uint8_t *codes, const struct grid *grid, uint8_t *line)
{
    const Py_ssize_t stride = grid->lead + length_of(grid);
    for (Py_ssize_t first = 0; first < grid->count; first += grid->columns) {
        if (first)
            line = fill_lines(line, grid->gap, grid);
        Py_ssize_t left = grid->count - first;
        Py_ssize_t tiles = left < grid->columns ? left : grid->columns;
        const uint8_t *maps = codes + first * grid->height * grid->width;
        for (Py_ssize_t y = 0; y < grid->height; y++) {
            const uint8_t *one = line;
            memset(line, 0, grid->lead);
            lay_line(maps + y * grid->width, tiles, grid, line + grid->lead, line + stride);
            line += stride;
            for (Py_ssize_t again = 1; again < grid->factor; again++, line += stride)
                memcpy(line, one, stride);
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

/* A grid from a tuple: (count, height, width, columns, factor, gap, lead, background). */
static int grid_from(PyObject *given, void *found)
{
    struct grid *grid = found;
    if (!PyTuple_Check(given)) {
        PyErr_SetString(PyExc_TypeError, "a grid is a tuple");
        return 0;
    }
    return PyArg_ParseTuple(
        given, "nnnnnnni", &grid->count, &grid->height, &grid->width, &grid->columns, &grid->factor, &grid->gap,
        &grid->lead, &grid->background);
}

/* How many pictures so many pixels of maps make on a canvas of so many bytes; 0 where they don't fit it. */
static Py_ssize_t pictures_of(const struct grid *grid, Py_ssize_t pixels, Py_ssize_t bytes)
{
    if (grid->count < 1 || grid->height < 1 || grid->width < 1 || grid->columns < 1 || grid->factor < 1)
        return 0;
    if (grid->gap < 0 || grid->lead < 0 || pixels % (grid->count * grid->height * grid->width))
        return 0;
    Py_ssize_t pictures = pixels / (grid->count * grid->height * grid->width);
    return pictures * lines_of(grid) * (grid->lead + length_of(grid)) == bytes ? pictures : 0;
}

/* quantise(values, scales, canvas, top, grid): of finite values, the codes where the grid has them; scales are low,
   scale and rounding of each map, (3, maps). Of a grid whose factor is 1. */
static PyObject *quantise(PyObject *module, PyObject *arguments)
{
    Py_buffer values, scales, canvas;
    struct grid grid;
    int top;
    if (!PyArg_ParseTuple(arguments, "y*y*w*iO&", &values, &scales, &canvas, &top, grid_from, &grid))
        return NULL;
    Py_ssize_t maps = grid.count * pictures_of(&grid, values.len / sizeof(float), canvas.len);
    bool wrong = refuse(maps == 0 || grid.factor != 1 || scales.len != maps * 3 * (Py_ssize_t)sizeof(float));
    if (!wrong) {
        const float *low = scales.buf;
        Py_BEGIN_ALLOW_THREADS
        codes_of_maps(values.buf, maps, low, low + maps, low + 2 * maps, top, &grid, canvas.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&scales);
    PyBuffer_Release(&canvas);
    return wrong ? NULL : Py_NewRef(Py_None);
}

/* quantise_between_extremes(values, found, canvas, top, grid): both, low and high being a map's extremes, (2, maps).
   Returns whether that could be done; where it could not, nothing that was written is right. */
static PyObject *quantise_between_extremes(PyObject *module, PyObject *arguments)
{
    Py_buffer values, found, canvas;
    struct grid grid;
    int top;
    if (!PyArg_ParseTuple(arguments, "y*w*w*iO&", &values, &found, &canvas, &top, grid_from, &grid))
        return NULL;
    Py_ssize_t maps = grid.count * pictures_of(&grid, values.len / sizeof(float), canvas.len);
    bool wrong = refuse(maps == 0 || grid.factor != 1 || found.len != maps * 2 * (Py_ssize_t)sizeof(float));
    bool done = false;
    if (!wrong) {
        float *least = found.buf;
        Py_BEGIN_ALLOW_THREADS
        done = codes_between_extremes(values.buf, maps, least, least + maps, top, &grid, canvas.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&found);
    PyBuffer_Release(&canvas);
    return wrong ? NULL : PyBool_FromLong(done);
}

/* lay(codes, canvas, grid): codes of maps where the grid has them. */
static PyObject *lay(PyObject *module, PyObject *arguments)
{
    Py_buffer codes, canvas;
    struct grid grid;
    if (!PyArg_ParseTuple(arguments, "y*w*O&", &codes, &canvas, grid_from, &grid))
        return NULL;
    Py_ssize_t pictures = pictures_of(&grid, codes.len, canvas.len);
    bool wrong = refuse(pictures == 0);
    if (!wrong) {
        Py_ssize_t size = codes.len / pictures, room = canvas.len / pictures;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t picture = 0; picture < pictures; picture++)
            lay_picture((const uint8_t *)codes.buf + picture * size, &grid, (uint8_t *)canvas.buf + picture * room);
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
    PyModuleDef_HEAD_INIT, .m_name = "surgery.drawing._kernels", .m_size = 0, .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__kernels(void)
{
    return PyModuleDef_Init(&definition);
}
