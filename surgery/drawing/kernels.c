/* The passes over values and pixels that take the most time, compiled. Each is a single pass where torch needs several.

   The module `surgery.drawing._kernels` is built on installation if there is a C compiler. Without it, the Python
   modules of `surgery.drawing` compute the same by torch, bit for bit. For that, it is compiled without contraction
   (a * b + c rounds twice, as in torch). It is also compiled for finite values only, so whether a value is finite is
   read from its bits. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "png_packing.h"
#include "portable.h"

#ifndef _WIN32
#include <unistd.h>
#endif

/* ---- places in pictures ---- */

/* Pictures of `count` maps each, in rows of `columns` maps, on a background. Each line begins with `lead` zeros. (In a
   PNG file one zero says that the line is not filtered.) */
struct grid {
    Py_ssize_t count, height, width; /* of the maps in one picture */
    Py_ssize_t columns;
    Py_ssize_t factor; /* each pixel of a map becomes factor x factor pixels */
    Py_ssize_t gap;    /* pixels between maps */
    Py_ssize_t lead;
    int background;
};

/* Pixels in a line, without the leading zeros. */
static Py_ssize_t line_length(const struct grid *grid)
{
    return grid->columns * (grid->width * grid->factor + grid->gap) - grid->gap;
}

static Py_ssize_t lines_in_picture(const struct grid *grid)
{
    return (grid->count + grid->columns - 1) / grid->columns * (grid->height * grid->factor + grid->gap) - grid->gap;
}

/* Fill the pixels from `line` to `end` with background. Returns `end`. */
INLINE uint8_t *fill_background(uint8_t *line, uint8_t *end, int background)
{
    memset(line, background, end - line);
    return end;
}

/* Write `count` lines without a map. Returns the end of the last one. */
INLINE uint8_t *fill_gap_lines(uint8_t *line, Py_ssize_t count, const struct grid *grid)
{
    for (Py_ssize_t y = 0; y < count; y++) {
        memset(line, 0, grid->lead);
        line = fill_background(line + grid->lead, line + grid->lead + line_length(grid), grid->background);
    }
    return line;
}

/* ---- extremes ---- */

struct extremes {
    float low, high;
    int32_t magnitude; /* the greatest bits without the sign; those of infinity and NaN are the greatest of all */
};

INLINE void include_value(float value, struct extremes *extremes)
{
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= 0x7fffffff;
    extremes->magnitude = bits > extremes->magnitude ? bits : extremes->magnitude;
    extremes->low = value < extremes->low ? value : extremes->low;
    extremes->high = value > extremes->high ? value : extremes->high;
}

INLINE struct extremes merge_extremes(struct extremes one, struct extremes other)
{
    one.magnitude = other.magnitude > one.magnitude ? other.magnitude : one.magnitude;
    one.low = other.low < one.low ? other.low : one.low;
    one.high = other.high > one.high ? other.high : one.high;
    return one;
}

/* Find the least and the greatest of `size` values. Returns whether all are finite; if not, both are meaningless.
   Four parts of the values are read side by side, so that no comparison waits for the one before. */
INLINE bool find_row_extremes(const float *restrict values, Py_ssize_t size, float *least, float *greatest)
{
    struct extremes a = {FLT_MAX, -FLT_MAX, 0}, b = a, c = a, d = a;
    const Py_ssize_t part = size / 4;
    for (Py_ssize_t i = 0; i < part; i++) {
        include_value(values[i], &a);
        include_value(values[part + i], &b);
        include_value(values[2 * part + i], &c);
        include_value(values[3 * part + i], &d);
    }
    for (Py_ssize_t i = 4 * part; i < size; i++)
        include_value(values[i], &a);
    a = merge_extremes(merge_extremes(a, b), merge_extremes(c, d));
    *least = a.low;
    *greatest = a.high;
    return a.magnitude < 0x7f800000;
}

VECTORIZED static bool find_extremes_of_rows(
    const float *values, Py_ssize_t rows, Py_ssize_t size, float *least, float *greatest)
{
    bool finite = true;
    for (Py_ssize_t row = 0; row < rows; row++)
        finite &= find_row_extremes(values + row * size, size, least + row, greatest + row);
    return finite;
}

/* ---- moments ---- */

#define SUMS 8 /* a sum is made of as many sums, of every eighth term each, which are added in pairs */

INLINE double add_sums(const double *sums)
{
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

INLINE double sum_of_values(const float *values, Py_ssize_t size)
{
    double sums[SUMS] = {0};
    Py_ssize_t i = 0;
    for (; i + SUMS <= size; i += SUMS)
        for (int part = 0; part < SUMS; part++)
            sums[part] += values[i + part];
    for (int part = 0; i < size; i++, part++)
        sums[part] += values[i];
    return add_sums(sums);
}

INLINE double sum_of_squares(const float *values, Py_ssize_t size, double mean)
{
    double sums[SUMS] = {0};
    Py_ssize_t i = 0;
    for (; i + SUMS <= size; i += SUMS)
        for (int part = 0; part < SUMS; part++) {
            double distance = values[i + part] - mean;
            sums[part] += distance * distance;
        }
    for (int part = 0; i < size; i++, part++) {
        double distance = values[i] - mean;
        sums[part] += distance * distance;
    }
    return add_sums(sums);
}

INLINE Py_ssize_t count_zeros(const float *values, Py_ssize_t size)
{
    Py_ssize_t zeros = 0;
    while (size) { /* a counter as wide as the values is twice as fast */
        const int32_t part = size < 1 << 30 ? (int32_t)size : 1 << 30;
        int32_t count = 0;
        for (int32_t i = 0; i < part; i++)
            count += values[i] == 0;
        zeros += count;
        values += part;
        size -= part;
    }
    return zeros;
}

/* Find mean, sum of the squared distances to it, least, greatest and number of zeros of each row: five arrays of `rows`
   numbers. A row is read three times while it is in the cache. Returns false if a value is not finite. */
VECTORIZED static bool find_moments_of_rows(const float *values, Py_ssize_t rows, Py_ssize_t size, double *moments)
{
    for (Py_ssize_t row = 0; row < rows; row++, values += size) {
        float least, greatest;
        if (!find_row_extremes(values, size, &least, &greatest))
            return false;
        Py_ssize_t zeros = count_zeros(values, size);
        double mean = sum_of_values(values, size) / size;
        moments[row] = mean;
        moments[rows + row] = sum_of_squares(values, size, mean);
        moments[2 * rows + row] = least;
        moments[3 * rows + row] = greatest;
        moments[4 * rows + row] = (double)zeros;
    }
    return true;
}

/* ---- codes from values ---- */

/* The code of a value is the whole part of (value - low) * scale + rounding. */
struct scale {
    float low, scale, rounding;
};

/* Write the codes of `size` values. If `clamp`, values outside of the limits get the codes 0 and `top`. */
INLINE void quantize_values(
    const float *restrict values, Py_ssize_t size, struct scale scale, bool clamp, int top, uint8_t *restrict codes)
{
    const float greatest = top + 0.5f;
    for (Py_ssize_t i = 0; i < size; i++) {
        float level = (values[i] - scale.low) * scale.scale + scale.rounding;
        if (clamp) {
            level = level < 0 ? 0 : level;
            level = level > greatest ? greatest : level;
        }
        codes[i] = (uint8_t)(int32_t)level;
    }
}

/* Start to load values into the cache. */
INLINE void prefetch(const float *values, Py_ssize_t count)
{
#ifdef __GNUC__
    for (Py_ssize_t i = 0; i < count; i += 64 / sizeof(float)) /* a cache line holds 64 bytes */
        __builtin_prefetch(values + i);
#else
    (void)values, (void)count;
#endif
}

#define PREFETCH_STEP 256      /* values between two calls of prefetch */
#define PREFETCH_DISTANCE 2048 /* values: as far as this, or as far as the next map if that is farther */

/* Write the codes of a map, the `number`-th of its picture, at its place, and the background to the right of it. The
   first map of a row also fills the gap above the row. `left` values follow from the first of this map on; no value
   after them is prefetched. */
INLINE void quantize_map(
    const float *values, Py_ssize_t left, struct scale scale, bool clamp, int top, Py_ssize_t number,
    const struct grid *grid, uint8_t *picture)
{
    const Py_ssize_t height = grid->height, width = grid->width, size = height * width;
    const Py_ssize_t distance = size > PREFETCH_DISTANCE ? size : PREFETCH_DISTANCE;
    const Py_ssize_t stride = grid->lead + line_length(grid);
    const Py_ssize_t row = number / grid->columns, column = number % grid->columns;
    const bool is_last = column + 1 == grid->columns || number + 1 == grid->count;
    uint8_t *line = picture + row * (height + grid->gap) * stride;
    if (row && !column)
        fill_gap_lines(line - grid->gap * stride, grid->gap, grid);
    for (Py_ssize_t y = 0; y < height; y++, line += stride, values += width, left -= width) {
        uint8_t *codes = line + grid->lead + column * (width + grid->gap);
        for (Py_ssize_t start = 0; start < width; start += PREFETCH_STEP) {
            Py_ssize_t count = width - start < PREFETCH_STEP ? width - start : PREFETCH_STEP;
            if (start + distance + count <= left)
                prefetch(values + start + distance, count);
            quantize_values(values + start, count, scale, clamp, top, codes + start);
        }
        if (!column)
            memset(line, 0, grid->lead);
        fill_background(codes + width, is_last ? line + stride : codes + width + grid->gap, grid->background);
    }
}

/* The picture that contains a map. */
INLINE uint8_t *picture_of_map(Py_ssize_t map, const struct grid *grid, uint8_t *pictures)
{
    return pictures + map / grid->count * lines_in_picture(grid) * (grid->lead + line_length(grid));
}

VECTORIZED static void quantize_maps(
    const float *values, Py_ssize_t maps, const float *low, const float *scale, const float *rounding, int top,
    const struct grid *grid, uint8_t *pictures)
{
    const Py_ssize_t size = grid->height * grid->width;
    for (Py_ssize_t map = 0; map < maps; map++) {
        struct scale its_scale = {low[map], scale[map], rounding[map]};
        quantize_map(
            values + map * size, (maps - map) * size, its_scale, true, top, map % grid->count, grid,
            picture_of_map(map, grid, pictures));
    }
}

/* Find the extremes of each map and write its codes between them, while the map is in the cache. Returns false if a
   value is not finite or float32 would overflow. Then not all codes are written. */
VECTORIZED static bool quantize_maps_between_extremes(
    const float *values, Py_ssize_t maps, float *least, float *greatest, int top, const struct grid *grid,
    uint8_t *pictures)
{
    const Py_ssize_t size = grid->height * grid->width;
    for (Py_ssize_t map = 0; map < maps; map++) {
        if (!find_row_extremes(values + map * size, size, least + map, greatest + map))
            return false;
        float low = least[map], high = greatest[map];
        double span = (double)high - low;
        double scale = span == 0 ? 0 : top / span;
        if (low < -FLT_MAX / 2 || high > FLT_MAX / 2 || scale > FLT_MAX)
            return false;
        struct scale its_scale = {low, (float)scale, span == 0 ? top / 2.0f + 0.5f : 0.5f};
        quantize_map(
            values + map * size, (maps - map) * size, its_scale, false, top, map % grid->count, grid,
            picture_of_map(map, grid, pictures));
    }
    return true;
}

/* ---- tiles from codes ---- */

/* Write one line of a map with each pixel `factor` times. Returns its end. */
INLINE uint8_t *repeat_pixels(const uint8_t *codes, Py_ssize_t width, Py_ssize_t factor, uint8_t *line)
{
    for (Py_ssize_t x = 0; x < width; x++, line += factor)
        memset(line, codes[x], factor);
    return line;
}

static uint8_t *enlarge_line(const uint8_t *codes, Py_ssize_t width, Py_ssize_t factor, uint8_t *line)
{
    switch (factor) { /* for a constant factor the compiler makes a single store of each memset */
    case 2:
        return repeat_pixels(codes, width, 2, line);
    case 4:
        return repeat_pixels(codes, width, 4, line);
    case 8:
        return repeat_pixels(codes, width, 8, line);
    case 16:
        return repeat_pixels(codes, width, 16, line);
    default:
        return repeat_pixels(codes, width, factor, line);
    }
}

/* Write one line of a row of tiles. `codes` is the line in the first of the maps. */
INLINE void tile_line(const uint8_t *codes, Py_ssize_t tiles, const struct grid *grid, uint8_t *line, uint8_t *end)
{
    for (Py_ssize_t tile = 0; tile < tiles; tile++) {
        const uint8_t *map = codes + tile * grid->height * grid->width;
        if (grid->factor == 1) {
            memcpy(line, map, grid->width);
            line += grid->width;
        } else {
            line = enlarge_line(map, grid->width, grid->factor, line);
        }
        if (line < end)
            line = fill_background(line, line + grid->gap, grid->background);
    }
    fill_background(line, end, grid->background);
}

static void tile_picture(const uint8_t *codes, const struct grid *grid, uint8_t *line)
{
    const Py_ssize_t stride = grid->lead + line_length(grid);
    for (Py_ssize_t first = 0; first < grid->count; first += grid->columns) {
        if (first)
            line = fill_gap_lines(line, grid->gap, grid);
        Py_ssize_t left = grid->count - first;
        Py_ssize_t tiles = left < grid->columns ? left : grid->columns;
        const uint8_t *maps = codes + first * grid->height * grid->width;
        for (Py_ssize_t y = 0; y < grid->height; y++) {
            const uint8_t *original = line;
            memset(line, 0, grid->lead);
            tile_line(maps + y * grid->width, tiles, grid, line + grid->lead, line + stride);
            line += stride;
            for (Py_ssize_t copy = 1; copy < grid->factor; copy++, line += stride)
                memcpy(line, original, stride);
        }
    }
}

/* ---- colors from codes ---- */

/* Write the colors of a line of codes, three bytes each. Each color but the last is stored with a fourth byte, which the
   next one overwrites. */
static void color_line(const uint8_t *codes, Py_ssize_t width, const uint32_t *colors, uint8_t *line)
{
    for (Py_ssize_t x = 0; x + 1 < width; x++)
        memcpy(line + 3 * x, colors + codes[x], 4);
    if (width)
        memcpy(line + 3 * (width - 1), colors + codes[width - 1], 3);
}

/* Both have one byte before the pixels of each line, which is copied. A line that repeats the one above is not looked
   up again. */
static void color_picture(
    const uint8_t *codes, Py_ssize_t height, Py_ssize_t width, const uint8_t *palette, uint8_t *canvas)
{
    uint32_t colors[256] = {0};
    const Py_ssize_t read = 1 + width, written = 1 + 3 * width;
    for (int code = 0; code < 256; code++)
        memcpy(colors + code, palette + 3 * code, 3);
    for (Py_ssize_t y = 0; y < height; y++, codes += read, canvas += written) {
        if (y && !memcmp(codes, codes - read, read)) {
            memcpy(canvas, canvas - written, written);
        } else {
            *canvas = *codes;
            color_line(codes + 1, width, colors, canvas + 1);
        }
    }
}

/* ---- PNG files ---- */

#define LONGEST_CHUNK 0x7fffffff /* (PNG specification, section 5.3) */
#define WIDEST_PIXEL 8           /* four samples of 16 bits */
#define LONGEST_WRITE (1 << 30)  /* macOS refuses to write 2**31 bytes in one call */

/* The whole content of a PNG file: a head, the packed lines in one chunk, and the chunk that ends it. */
struct png {
    uint8_t *room; /* to be freed by PyMem_RawFree */
    const uint8_t *bytes;
    size_t size;
};

static uint8_t *put_uint32(uint8_t *bytes, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        *bytes++ = (uint8_t)(value >> shift);
    return bytes;
}

/* Compose a file from its head, which is all that precedes the pixels, and its lines. Returns false if there is not
   enough memory. */
static bool compose_png(
    const Py_buffer *head, const Py_buffer *lines, Py_ssize_t line, Py_ssize_t pixel, bool store_noise, struct png *png)
{
    static const uint8_t END[12] = {0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xae, 0x42, 0x60, 0x82};
    const size_t tokens = packing_tokens() * sizeof(uint32_t), room = packing_room(lines->len);
    png->room = PyMem_RawMalloc(tokens + head->len + 8 + room + 4 + sizeof END);
    if (!png->room)
        return false;
    uint8_t *file = png->room + tokens, *chunk = file + head->len;
    memcpy(file, head->buf, head->len);
    size_t packed = pack_lines(lines->buf, lines->len, line, pixel, store_noise, (uint32_t *)png->room, chunk + 8);
    memcpy(put_uint32(chunk, (uint32_t)packed), "IDAT", 4);
    uint8_t *end = put_uint32(chunk + 8 + packed, extend_crc32(0, chunk + 4, packed + 4));
    memcpy(end, END, sizeof END);
    png->bytes = file;
    png->size = end + sizeof END - file;
    return true;
}

#ifndef _WIN32
struct file {
    int descriptor; /* negative until it is open */
    size_t written;
};

/* Write a file. Returns 0, or the number of the error. After EINTR, call it again to go on. */
static int write_file(const char *path, const struct png *png, struct file *file)
{
    if (file->descriptor < 0)
        file->descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file->descriptor < 0)
        return errno;
    const size_t left = png->size - file->written;
    ssize_t count = write(file->descriptor, png->bytes + file->written, left < LONGEST_WRITE ? left : LONGEST_WRITE);
    int error = count < 0 ? errno : 0;
    if (!error) {
        file->written += count;
        if (file->written < png->size)
            error = EINTR; /* a signal came in between, or the disk is almost full, which the next call finds */
    }
    if (error != EINTR && close(file->descriptor) && errno != EINTR && !error)
        error = errno;
    return error;
}
#endif

/* ---- the module ---- */

static bool raise_if(bool wrong)
{
    if (wrong)
        PyErr_SetString(PyExc_ValueError, "buffers do not fit each other");
    return wrong;
}

/* Convert a tuple (count, height, width, columns, factor, gap, lead, background) to a grid. */
static int parse_grid(PyObject *tuple, void *result)
{
    struct grid *grid = result;
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "a grid is a tuple");
        return 0;
    }
    return PyArg_ParseTuple(
        tuple, "nnnnnnni", &grid->count, &grid->height, &grid->width, &grid->columns, &grid->factor, &grid->gap,
        &grid->lead, &grid->background);
}

/* The number of pictures that maps of this many pixels make on a canvas of this many bytes; 0 if they do not fit. */
static Py_ssize_t count_pictures(const struct grid *grid, Py_ssize_t pixels, Py_ssize_t bytes)
{
    if (grid->count < 1 || grid->height < 1 || grid->width < 1 || grid->columns < 1 || grid->factor < 1)
        return 0;
    if (grid->gap < 0 || grid->lead < 0 || pixels % (grid->count * grid->height * grid->width))
        return 0;
    Py_ssize_t pictures = pixels / (grid->count * grid->height * grid->width);
    return pictures * lines_in_picture(grid) * (grid->lead + line_length(grid)) == bytes ? pictures : 0;
}

/* find_extremes(values, extremes): write the least and the greatest value of each row to extremes, (2, rows). Returns
   whether all values are finite; if not, the extremes are meaningless. */
static PyObject *find_extremes(PyObject *module, PyObject *arguments)
{
    Py_buffer values, extremes;
    if (!PyArg_ParseTuple(arguments, "y*w*", &values, &extremes))
        return NULL;
    Py_ssize_t count = values.len / sizeof(float), rows = extremes.len / (2 * sizeof(float));
    bool wrong = raise_if(rows == 0 || count == 0 || count % rows), finite = false;
    if (!wrong) {
        float *least = extremes.buf;
        Py_BEGIN_ALLOW_THREADS
        finite = find_extremes_of_rows(values.buf, rows, count / rows, least, least + rows);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&extremes);
    return wrong ? NULL : PyBool_FromLong(finite);
}

/* quantize(values, scales, canvas, top, grid): write the codes of finite values to their places on the canvas. The
   scales (3, maps) are low, scale and rounding of each map. The factor of the grid is 1. */
static PyObject *quantize(PyObject *module, PyObject *arguments)
{
    Py_buffer values, scales, canvas;
    struct grid grid;
    int top;
    if (!PyArg_ParseTuple(arguments, "y*y*w*iO&", &values, &scales, &canvas, &top, parse_grid, &grid))
        return NULL;
    Py_ssize_t maps = grid.count * count_pictures(&grid, values.len / sizeof(float), canvas.len);
    bool wrong = raise_if(maps == 0 || grid.factor != 1 || scales.len != maps * 3 * (Py_ssize_t)sizeof(float));
    if (!wrong) {
        const float *low = scales.buf;
        Py_BEGIN_ALLOW_THREADS
        quantize_maps(values.buf, maps, low, low + maps, low + 2 * maps, top, &grid, canvas.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&scales);
    PyBuffer_Release(&canvas);
    return wrong ? NULL : Py_NewRef(Py_None);
}

/* quantize_between_extremes(values, extremes, canvas, top, grid): write the extremes (2, maps) of each map, and its
   codes between them to their places on the canvas. The factor of the grid is 1. Returns False if a value is not finite
   or float32 would overflow; then extremes and codes are meaningless. */
static PyObject *quantize_between_extremes(PyObject *module, PyObject *arguments)
{
    Py_buffer values, extremes, canvas;
    struct grid grid;
    int top;
    if (!PyArg_ParseTuple(arguments, "y*w*w*iO&", &values, &extremes, &canvas, &top, parse_grid, &grid))
        return NULL;
    Py_ssize_t maps = grid.count * count_pictures(&grid, values.len / sizeof(float), canvas.len);
    bool wrong = raise_if(maps == 0 || grid.factor != 1 || extremes.len != maps * 2 * (Py_ssize_t)sizeof(float));
    bool done = false;
    if (!wrong) {
        float *least = extremes.buf;
        Py_BEGIN_ALLOW_THREADS
        done = quantize_maps_between_extremes(values.buf, maps, least, least + maps, top, &grid, canvas.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&extremes);
    PyBuffer_Release(&canvas);
    return wrong ? NULL : PyBool_FromLong(done);
}

/* tile_codes(codes, canvas, grid): write the codes of maps to their places on the canvas. */
static PyObject *tile_codes(PyObject *module, PyObject *arguments)
{
    Py_buffer codes, canvas;
    struct grid grid;
    if (!PyArg_ParseTuple(arguments, "y*w*O&", &codes, &canvas, parse_grid, &grid))
        return NULL;
    Py_ssize_t pictures = count_pictures(&grid, codes.len, canvas.len);
    bool wrong = raise_if(pictures == 0);
    if (!wrong) {
        Py_ssize_t size = codes.len / pictures, room = canvas.len / pictures;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t picture = 0; picture < pictures; picture++)
            tile_picture((const uint8_t *)codes.buf + picture * size, &grid, (uint8_t *)canvas.buf + picture * room);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&canvas);
    return wrong ? NULL : Py_NewRef(Py_None);
}

/* find_moments(values, moments): write the moments (5, rows) of rows of equal size. Returns False if a value is not
   finite; then the moments are meaningless. */
static PyObject *find_moments(PyObject *module, PyObject *arguments)
{
    Py_buffer values, moments;
    if (!PyArg_ParseTuple(arguments, "y*w*", &values, &moments))
        return NULL;
    Py_ssize_t rows = moments.len / (5 * sizeof(double)), count = values.len / sizeof(float);
    bool wrong = raise_if(rows < 1 || count < rows || count % rows || moments.len % (5 * sizeof(double)));
    bool finite = false;
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        finite = find_moments_of_rows(values.buf, rows, count / rows, moments.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&moments);
    return wrong ? NULL : PyBool_FromLong(finite);
}

/* color_lines(lines, palette, canvas): write the colors of codes (H, 1 + W) to a canvas (H, 1 + 3 * W). The palette is
   (256, 3). The first byte of each line is copied. */
static PyObject *color_lines(PyObject *module, PyObject *arguments)
{
    Py_buffer lines, palette, canvas;
    if (!PyArg_ParseTuple(arguments, "y*y*w*", &lines, &palette, &canvas))
        return NULL;
    /* 3 * H * (1 + W) - H * (1 + 3 * W) = 2 * H */
    Py_ssize_t twice = 3 * lines.len - canvas.len, height = twice / 2;
    bool wrong = raise_if(palette.len != 768 || twice < 2 || twice % 2 || lines.len % height || lines.len < height);
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        color_picture(lines.buf, height, lines.len / height - 1, palette.buf, canvas.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&lines);
    PyBuffer_Release(&palette);
    PyBuffer_Release(&canvas);
    return wrong ? NULL : Py_NewRef(Py_None);
}

/* Whether a picture of so many bytes can have such lines, and fits into a chunk. */
static bool are_lines(const Py_buffer *lines, Py_ssize_t line, Py_ssize_t pixel)
{
    if (line < 1 || pixel < 1 || pixel > WIDEST_PIXEL || lines->len < 1 || lines->len % line)
        return false;
    return lines->len < LONGEST_CHUNK && packing_room(lines->len) <= LONGEST_CHUNK;
}

/* encode_png(head, lines, line, pixel, store_noise): return the content of a PNG file. `head` is all that precedes the
   pixels; the lines have `line` bytes each, the first of which is its filter, and `pixel` bytes for each pixel. */
static PyObject *encode_png(PyObject *module, PyObject *arguments)
{
    Py_buffer head, lines;
    Py_ssize_t line, pixel;
    int store_noise;
    struct png png;
    if (!PyArg_ParseTuple(arguments, "y*y*nnp", &head, &lines, &line, &pixel, &store_noise))
        return NULL;
    PyObject *result = NULL;
    if (!raise_if(!are_lines(&lines, line, pixel))) {
        bool done;
        Py_BEGIN_ALLOW_THREADS
        done = compose_png(&head, &lines, line, pixel, store_noise, &png);
        Py_END_ALLOW_THREADS
        result = done ? PyBytes_FromStringAndSize((const char *)png.bytes, png.size) : PyErr_NoMemory();
        PyMem_RawFree(png.room);
    }
    PyBuffer_Release(&head);
    PyBuffer_Release(&lines);
    return result;
}

#ifndef _WIN32
/* write_png(path, head, lines, line, pixel, store_noise): write a PNG file, as by `encode_png`. Returns the CRC-32 of
   its bytes, and their number. Raises OSError. */
static PyObject *write_png(PyObject *module, PyObject *arguments)
{
    Py_buffer head, lines;
    Py_ssize_t line, pixel;
    int store_noise, error;
    uint32_t crc = 0;
    struct png png = {0};
    struct file file = {-1, 0};
    PyObject *path, *encoded;
    if (!PyArg_ParseTuple(arguments, "Oy*y*nnp", &path, &head, &lines, &line, &pixel, &store_noise))
        return NULL;
    PyObject *result = NULL;
    if (!raise_if(!are_lines(&lines, line, pixel)) && PyUnicode_FSConverter(path, &encoded)) {
        if (!PySys_Audit("open", "OOi", path, Py_None, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC)) {
            const char *name = PyBytes_AS_STRING(encoded);
            do {
                Py_BEGIN_ALLOW_THREADS
                if (png.room || compose_png(&head, &lines, line, pixel, store_noise, &png))
                    error = write_file(name, &png, &file);
                else
                    error = ENOMEM;
                if (!error)
                    crc = extend_crc32(0, png.bytes, png.size);
                Py_END_ALLOW_THREADS
            } while (error == EINTR && !PyErr_CheckSignals());
            if (error == EINTR && file.descriptor >= 0)
                close(file.descriptor);
            errno = error;
            if (error != EINTR)
                result = error ? PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path)
                               : Py_BuildValue("In", (unsigned int)crc, (Py_ssize_t)png.size);
            PyMem_RawFree(png.room);
        }
        Py_DECREF(encoded);
    }
    PyBuffer_Release(&head);
    PyBuffer_Release(&lines);
    return result;
}
#endif

static PyMethodDef methods[] = {
    {"find_extremes", find_extremes, METH_VARARGS, NULL},
    {"quantize", quantize, METH_VARARGS, NULL},
    {"quantize_between_extremes", quantize_between_extremes, METH_VARARGS, NULL},
    {"find_moments", find_moments, METH_VARARGS, NULL},
    {"color_lines", color_lines, METH_VARARGS, NULL},
    {"tile_codes", tile_codes, METH_VARARGS, NULL},
    {"encode_png", encode_png, METH_VARARGS, NULL},
#ifndef _WIN32
    {"write_png", write_png, METH_VARARGS, NULL},
#endif
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
    prepare_packing();
    return PyModuleDef_Init(&definition);
}
