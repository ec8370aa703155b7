/* Deflate (RFC 1951) for the lines of PNG pictures. Where a general encoder looks for earlier bytes that are alike
   anywhere, this one compares with three places only: the byte before, the pixel before, and the line above. All else
   gets a Huffman code. On the activations of eight networks, that takes an eighth to a tenth of the time of zlib's
   level 1, for streams of 0.98 to 1.24 of its size: least for large maps, most for small ones that are drawn enlarged by
   2 or 3. The same lines give the same stream everywhere. */

#include "png_packing.h"

#include <stdbool.h>
#include <string.h>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define HAS_SSE2 1
#endif
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAS_CLMUL 1
#endif

#include "portable.h" /* last: the headers of MSVC use a name that it defines */

#define BLOCK 65535       /* bytes of lines in a block: as many as a stored block may have */
#define LONGEST 258       /* bytes of a match */
#define WINDOW 32         /* bytes that are compared at once */
#define FARTHEST 32768    /* a match may refer so far back */
#define END_OF_BLOCK 256
#define LITERALS 286      /* codes of bytes, the end and lengths */
#define DISTANCES 30
#define PLACES 3
#define MAX_BITS 12       /* of a code, so that the codes of four bytes fit into the bits that are held */
#define SLACK 1024        /* bytes behind the stream: for the head of a block, and for stores of 8 bytes */

#define SHORTEST 5        /* bytes of a match; with 3, files would be 1 to 5 % smaller, and take 10 to 50 % longer */
#define NOISE_PERCENT 80  /* a block of which as much is left is noise */
#define SAMPLE 4096       /* bytes of a block that are looked at after a block of noise */

/* ---- lengths and distances (RFC 1951, section 3.2.5) ---- */

static const uint16_t LENGTH_BASE[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                         31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
static const uint8_t LENGTH_EXTRA[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};

static uint8_t length_code[LONGEST + 1]; /* the code of a length, less 257 */
static uint32_t crc_table[8][256];

struct distance {
    uint32_t bytes;
    int code, extra_bits;
    uint32_t extra;
};

static struct distance find_distance(uint32_t bytes)
{
    struct distance distance = {bytes, 0, 0, 0};
    uint32_t rest = bytes - 1;
    int top = 0;
    if (rest < 4) {
        distance.code = (int)rest;
        return distance;
    }
    while (rest >> (top + 1))
        top++;
    distance.extra_bits = top - 1;
    distance.code = 2 * top + (int)(rest >> (top - 1) & 1);
    distance.extra = rest & ((1u << (top - 1)) - 1);
    return distance;
}

void prepare_packing(void)
{
    for (int length = LENGTH_BASE[0], code = 0; length <= LONGEST; length++) {
        if (code < 28 && length == LENGTH_BASE[code + 1])
            code++;
        length_code[length] = (uint8_t)code;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        crc_table[0][byte] = crc;
    }
    for (int table = 1; table < 8; table++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t before = crc_table[table - 1][byte];
            crc_table[table][byte] = before >> 8 ^ crc_table[0][before & 0xff];
        }
}

/* ---- checksums ---- */

static uint32_t extend_crc32_by_tables(uint32_t crc, const uint8_t *bytes, size_t size)
{
    for (; size >= 8; size -= 8, bytes += 8) {
        uint32_t low = crc ^ (bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (uint32_t)bytes[3] << 24);
        crc = crc_table[7][low & 0xff] ^ crc_table[6][low >> 8 & 0xff] ^ crc_table[5][low >> 16 & 0xff]
            ^ crc_table[4][low >> 24] ^ crc_table[3][bytes[4]] ^ crc_table[2][bytes[5]] ^ crc_table[1][bytes[6]]
            ^ crc_table[0][bytes[7]];
    }
    for (; size; size--)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *bytes++) & 0xff];
    return crc;
}

#ifdef HAS_CLMUL
/* Four times 128 bits are folded at once (Gopal et al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
   Instruction, Intel 2009). The remainder of the last 128 bits is taken by tables. `size` is a multiple of 64. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t extend_crc32_by_folding(
    uint32_t crc, const uint8_t *bytes, size_t size)
{
    const __m128i by_512 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by_128 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    __m128i folded[4];
    for (int part = 0; part < 4; part++)
        folded[part] = _mm_loadu_si128((const __m128i *)bytes + part);
    folded[0] = _mm_xor_si128(folded[0], _mm_cvtsi32_si128((int)crc));
    for (bytes += 64, size -= 64; size; bytes += 64, size -= 64)
        for (int part = 0; part < 4; part++) {
            __m128i low = _mm_clmulepi64_si128(folded[part], by_512, 0x00);
            __m128i high = _mm_clmulepi64_si128(folded[part], by_512, 0x11);
            __m128i next = _mm_loadu_si128((const __m128i *)bytes + part);
            folded[part] = _mm_xor_si128(_mm_xor_si128(low, high), next);
        }
    for (int part = 1; part < 4; part++) {
        __m128i low = _mm_clmulepi64_si128(folded[0], by_128, 0x00);
        __m128i high = _mm_clmulepi64_si128(folded[0], by_128, 0x11);
        folded[0] = _mm_xor_si128(_mm_xor_si128(low, high), folded[part]);
    }
    uint8_t rest[16];
    _mm_storeu_si128((__m128i *)rest, folded[0]);
    return extend_crc32_by_tables(0, rest, 16);
}
#endif

uint32_t extend_crc32(uint32_t crc, const uint8_t *bytes, size_t size)
{
    crc = ~crc;
#ifdef HAS_CLMUL
    if (size >= 128 && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) {
        size_t folded = size & ~(size_t)63;
        crc = extend_crc32_by_folding(crc, bytes, folded);
        bytes += folded;
        size -= folded;
    }
#endif
    return ~extend_crc32_by_tables(crc, bytes, size);
}

#define ADLER_STEP 32
#define ADLER_BYTES 5536 /* as many as can be added before the sums overflow, a multiple of the step */

/* Continue an Adler-32 (RFC 1950, section 8). */
VECTORIZED static uint32_t extend_adler32(uint32_t adler, const uint8_t *bytes, size_t size)
{
    uint32_t sum = adler & 0xffff, sums = adler >> 16;
    while (size) {
        size_t count = size < ADLER_BYTES ? size : ADLER_BYTES;
        size -= count;
        for (; count >= ADLER_STEP; count -= ADLER_STEP, bytes += ADLER_STEP) {
            uint32_t plain = 0, weighted = 0;
            for (int i = 0; i < ADLER_STEP; i++) {
                plain += bytes[i];
                weighted += (uint32_t)(ADLER_STEP - i) * bytes[i];
            }
            sums += ADLER_STEP * sum + weighted;
            sum += plain;
        }
        for (; count; count--) {
            sum += *bytes++;
            sums += sum;
        }
        sum %= 65521;
        sums %= 65521;
    }
    return sums << 16 | sum;
}

/* ---- matches ---- */

/* Bytes as they are, then a match; each has 32 bits: the number of bytes, the length of the match (0 at the end of a
   block), and which of the places it refers to. */
INLINE uint32_t make_token(size_t literals, size_t length, int place)
{
    return (uint32_t)(literals | length << 16 | (size_t)place << 25);
}

#define TOKEN_LITERALS(token) ((token) & 0xffff)
#define TOKEN_LENGTH(token) ((token) >> 16 & 0x1ff)
#define TOKEN_PLACE(token) ((token) >> 25)

/* Bit i of the result says whether byte i of the two windows is the same. */
INLINE uint32_t compare_windows(const uint8_t *one, const uint8_t *other)
{
#ifdef HAS_SSE2
    __m128i low = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)one), _mm_loadu_si128((const __m128i *)other));
    __m128i high =
        _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)one + 1), _mm_loadu_si128((const __m128i *)other + 1));
    return (uint32_t)_mm_movemask_epi8(low) | (uint32_t)_mm_movemask_epi8(high) << 16;
#else
    uint32_t mask = 0;
    for (int i = 0; i < WINDOW; i++)
        mask |= (uint32_t)(one[i] == other[i]) << i;
    return mask;
#endif
}

INLINE int lowest_bit(uint32_t mask)
{
#if defined(__GNUC__)
    return __builtin_ctz(mask);
#else
    int bit = 0;
    for (; !(mask >> bit & 1); bit++)
        ;
    return bit;
#endif
}

/* How many bytes are the same, up to `most`. */
INLINE size_t count_equal(const uint8_t *one, const uint8_t *other, size_t most)
{
    size_t count = 0;
    for (; count + WINDOW <= most; count += WINDOW) {
        uint32_t differ = ~compare_windows(one + count, other + count);
        if (differ)
            return count + lowest_bit(differ);
    }
    while (count < most && one[count] == other[count])
        count++;
    return count;
}

/* The bits of a mask at which as many ones begin as a match has at least. */
INLINE uint32_t runs_of(uint32_t mask)
{
    uint32_t runs = mask;
    for (int shift = 1; shift < SHORTEST; shift++)
        runs &= mask >> shift;
    return runs;
}

struct places {
    struct distance at[PLACES]; /* near ones first */
    int count;
};

/* Find the matches of the bytes from `start` to `end`, and write them as tokens. Returns their end. */
VECTORIZED static uint32_t *find_matches(
    const uint8_t *lines, size_t start, size_t end, const struct places *places, uint32_t *token)
{
    size_t position = start, literals = start;
    const size_t needed = places->at[places->count - 1].bytes;
    while (position < end) {
        const bool whole = position >= needed; /* whether all places lie before this position */
        const size_t left = end - position;
        uint32_t starts = 0;
        int step;
        if (left >= WINDOW) {
            for (int place = 0; place < places->count; place++) {
                const size_t back = places->at[place].bytes;
                if (!whole && position < back)
                    continue;
                starts |= runs_of(compare_windows(lines + position, lines + position - back));
            }
            step = WINDOW - SHORTEST + 1;
        } else {
            starts = 1; /* the last bytes, one by one */
            step = 1;
        }
        if (!starts) {
            position += step;
            continue;
        }
        position += lowest_bit(starts);
        size_t most = end - position < LONGEST ? end - position : LONGEST, best = 0;
        int found = 0;
        for (int place = 0; place < places->count && best < most; place++) {
            const size_t back = places->at[place].bytes;
            if (position < back)
                continue;
            size_t length = count_equal(lines + position, lines + position - back, most);
            if (length >= SHORTEST && length > best) {
                best = length;
                found = place;
            }
        }
        if (best) {
            *token++ = make_token(position - literals, best, found);
            position += best;
            literals = position;
        } else {
            position += 1;
        }
    }
    *token++ = make_token(end - literals, 0, 0);
    return token;
}

/* ---- Huffman codes ---- */

struct code {
    uint32_t entry[LITERALS]; /* the bits of a code, and their number from bit 16 on */
    uint8_t lengths[LITERALS];
};

/* Sort symbols by how often they occur, rarest first. Returns how many occur at all. */
static int sort_symbols(const uint32_t *counts, int symbols, uint16_t *sorted)
{
    uint16_t found[LITERALS];
    int used = 0;
    for (int symbol = 0; symbol < symbols; symbol++)
        if (counts[symbol])
            found[used++] = (uint16_t)symbol;
    for (int shift = 0; shift <= 8; shift += 8) { /* counts have 16 bits: a block is no longer */
        uint16_t starts[257] = {0};
        for (int i = 0; i < used; i++)
            starts[(counts[found[i]] >> shift & 0xff) + 1]++;
        for (int digit = 0; digit < 256; digit++)
            starts[digit + 1] += starts[digit];
        for (int i = 0; i < used; i++)
            sorted[starts[counts[found[i]] >> shift & 0xff]++] = found[i];
        memcpy(found, sorted, used * sizeof *found);
    }
    return used;
}

/* Turn ascending weights into the lengths of a code of least redundancy, in place (Moffat and Katajainen, In-Place
   Calculation of Minimum-Redundancy Codes, 1995). Lengths descend. There are two weights at least. */
static void weights_to_lengths(uint32_t *weight, int count)
{
    int leaf = 2, root = 0;
    weight[0] += weight[1];
    for (int next = 1; next < count - 1; next++) {
        if (leaf >= count || weight[root] < weight[leaf]) {
            weight[next] = weight[root];
            weight[root++] = (uint32_t)next;
        } else {
            weight[next] = weight[leaf++];
        }
        if (leaf >= count || (root < next && weight[root] < weight[leaf])) {
            weight[next] += weight[root];
            weight[root++] = (uint32_t)next;
        } else {
            weight[next] += weight[leaf++];
        }
    }
    weight[count - 2] = 0;
    for (int next = count - 3; next >= 0; next--)
        weight[next] = weight[weight[next]] + 1;
    int available = 1, depth = 0;
    root = count - 2;
    for (int next = count - 1; available > 0; depth++) {
        int inner = 0;
        for (; root >= 0 && (int)weight[root] == depth; root--)
            inner++;
        for (; available > inner; available--)
            weight[next--] = (uint32_t)depth;
        available = 2 * inner;
    }
}

/* Make a code of at most `limit` bits from how often symbols occur, of which two occur at least. */
static void make_code(const uint32_t *counts, int symbols, int limit, struct code *code)
{
    uint16_t sorted[LITERALS];
    uint32_t lengths[LITERALS];
    int of_length[16] = {0};
    memset(code->lengths, 0, sizeof code->lengths);
    int used = sort_symbols(counts, symbols, sorted);
    for (int i = 0; i < used; i++)
        lengths[i] = counts[sorted[i]];
    weights_to_lengths(lengths, used);
    for (int i = 0; i < used; i++)
        of_length[lengths[i] < (uint32_t)limit ? lengths[i] : (uint32_t)limit]++;
    int32_t surplus = -(1 << limit); /* codes of full length that are too many */
    for (int length = 1; length <= limit; length++)
        surplus += of_length[length] << (limit - length);
    for (; surplus; surplus--) { /* a shorter code becomes two of one bit more; one takes a symbol of full length */
        int length = limit - 1;
        while (!of_length[length])
            length--;
        of_length[length]--;
        of_length[length + 1] += 2;
        of_length[limit]--;
    }
    int next = 0;
    for (int length = limit; length; length--)
        for (int i = 0; i < of_length[length]; i++)
            code->lengths[sorted[next++]] = (uint8_t)length;
    uint32_t first[16] = {0}, value = 0;
    for (int length = 1; length <= limit; length++) {
        first[length] = value;
        value = (value + of_length[length]) << 1;
    }
    for (int symbol = 0; symbol < symbols; symbol++) {
        int length = code->lengths[symbol];
        uint32_t bits = length ? first[length]++ : 0, reversed = 0;
        for (int bit = 0; bit < length; bit++)
            reversed |= (bits >> bit & 1) << (length - 1 - bit);
        code->entry[symbol] = reversed | (uint32_t)length << 16;
    }
}

/* ---- bits ---- */

struct bits {
    uint64_t held;
    int count; /* of the bits that are held: 7 at most after `write_out` */
    uint8_t *next;
};

INLINE void put(struct bits *bits, uint64_t value, int count)
{
    bits->held |= value << bits->count;
    bits->count += count;
}

INLINE void put_code(struct bits *bits, uint32_t entry)
{
    put(bits, entry & 0xffff, (int)(entry >> 16));
}

/* Write the whole bytes of what is held. */
INLINE void write_out(struct bits *bits)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (int byte = 0; byte < 8; byte++)
        bits->next[byte] = (uint8_t)(bits->held >> 8 * byte);
#else
    memcpy(bits->next, &bits->held, 8);
#endif
    bits->next += bits->count >> 3;
    bits->held >>= bits->count & ~7;
    bits->count &= 7;
}

/* Write all that is held, filled up to a whole byte with zeros. */
static void fill_byte(struct bits *bits)
{
    bits->count = (bits->count + 7) & ~7;
    write_out(bits);
}

/* ---- blocks ---- */

static const uint8_t ORDER_OF_LENGTHS[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

/* The lengths of both codes, run by run (RFC 1951, section 3.2.7). */
struct head {
    uint8_t symbol[LITERALS + DISTANCES], repeats[LITERALS + DISTANCES];
    int runs, literals, distances, lengths;
    struct code code;
};

INLINE int repeat_bits(int symbol)
{
    return symbol == 16 ? 2 : symbol == 17 ? 3 : symbol == 18 ? 7 : 0;
}

/* Lay out the head of a block. Returns its size in bits. */
static uint32_t make_head(const struct code *literal_code, const struct code *distance_code, struct head *head)
{
    uint8_t all[LITERALS + DISTANCES];
    uint32_t counts[LITERALS] = {0}, bits = 14;
    head->literals = LITERALS;
    while (head->literals > 257 && !literal_code->lengths[head->literals - 1])
        head->literals--;
    head->distances = DISTANCES;
    while (head->distances > 1 && !distance_code->lengths[head->distances - 1])
        head->distances--;
    const int total = head->literals + head->distances;
    memcpy(all, literal_code->lengths, head->literals);
    memcpy(all + head->literals, distance_code->lengths, head->distances);
    head->runs = 0;
    for (int i = 0; i < total;) {
        int run = 1, symbol = all[i], repeats = 0;
        while (i + run < total && all[i + run] == all[i])
            run++;
        if (!all[i] && run >= 3) {
            run = run > 138 ? 138 : run;
            symbol = run < 11 ? 17 : 18;
            repeats = run - (run < 11 ? 3 : 11);
        } else if (i && all[i] == all[i - 1] && run >= 3) {
            run = run > 6 ? 6 : run;
            symbol = 16;
            repeats = run - 3;
        } else {
            run = 1;
        }
        head->symbol[head->runs] = (uint8_t)symbol;
        head->repeats[head->runs++] = (uint8_t)repeats;
        counts[symbol]++;
        bits += repeat_bits(symbol);
        i += run;
    }
    make_code(counts, 19, 7, &head->code);
    for (int symbol = 0; symbol < 19; symbol++)
        bits += counts[symbol] * head->code.lengths[symbol];
    head->lengths = 19;
    while (head->lengths > 4 && !head->code.lengths[ORDER_OF_LENGTHS[head->lengths - 1]])
        head->lengths--;
    return bits + 3 * head->lengths;
}

static void put_head(const struct head *head, struct bits *bits)
{
    put(bits, head->literals - 257, 5);
    put(bits, head->distances - 1, 5);
    put(bits, head->lengths - 4, 4);
    write_out(bits);
    for (int i = 0; i < head->lengths; i++) {
        put(bits, head->code.lengths[ORDER_OF_LENGTHS[i]], 3);
        write_out(bits);
    }
    for (int run = 0; run < head->runs; run++) {
        put_code(bits, head->code.entry[head->symbol[run]]);
        put(bits, head->repeats[run], repeat_bits(head->symbol[run]));
        write_out(bits);
    }
}

/* Count the symbols of the tokens of a block. Returns the bits that lengths and distances have beside their codes. */
VECTORIZED static uint64_t count_symbols(
    const uint8_t *bytes, const uint32_t *token, const uint32_t *last, const struct places *places, uint32_t *literals,
    uint32_t *distances)
{
    uint32_t counts[4][256] = {{0}}; /* side by side, so that no addition waits for the one before */
    uint64_t extra = 0;
    for (; token < last; token++) {
        size_t left = TOKEN_LITERALS(*token);
        for (; left >= 4; left -= 4, bytes += 4)
            for (int part = 0; part < 4; part++)
                counts[part][bytes[part]]++;
        for (; left; left--)
            counts[0][*bytes++]++;
        size_t length = TOKEN_LENGTH(*token);
        if (!length)
            continue;
        const struct distance *distance = places->at + TOKEN_PLACE(*token);
        literals[257 + length_code[length]]++;
        distances[distance->code]++;
        extra += LENGTH_EXTRA[length_code[length]] + distance->extra_bits;
        bytes += length;
    }
    for (int byte = 0; byte < 256; byte++)
        literals[byte] = counts[0][byte] + counts[1][byte] + counts[2][byte] + counts[3][byte];
    literals[END_OF_BLOCK] = 1;
    for (int code = 0, used = 0; code < DISTANCES; code++)
        if (distances[code] && ++used == 2)
            return extra;
    distances[0] += !distances[0]; /* decoders expect a complete code: two symbols at least */
    distances[1] += !distances[1];
    return extra;
}

VECTORIZED static void put_tokens(
    const uint8_t *bytes, const uint32_t *token, const uint32_t *last, const struct places *places,
    const struct code *literal_code, const struct code *distance_code, struct bits *result)
{
    struct bits bits = *result;
    const uint32_t *entry = literal_code->entry;
    for (; token < last; token++) {
        size_t left = TOKEN_LITERALS(*token);
        for (; left >= 4; left -= 4, bytes += 4) {
            for (int part = 0; part < 4; part++)
                put_code(&bits, entry[bytes[part]]);
            write_out(&bits);
        }
        for (; left; left--)
            put_code(&bits, entry[*bytes++]);
        write_out(&bits);
        size_t length = TOKEN_LENGTH(*token);
        if (!length)
            continue;
        const struct distance *distance = places->at + TOKEN_PLACE(*token);
        const int code = length_code[length];
        put_code(&bits, entry[257 + code]);
        put(&bits, length - LENGTH_BASE[code], LENGTH_EXTRA[code]);
        put_code(&bits, distance_code->entry[distance->code]);
        put(&bits, distance->extra, distance->extra_bits);
        write_out(&bits);
        bytes += length;
    }
    put_code(&bits, entry[END_OF_BLOCK]);
    write_out(&bits);
    *result = bits;
}

static void put_stored(const uint8_t *bytes, size_t size, bool is_last, struct bits *bits)
{
    put(bits, is_last, 3);
    fill_byte(bits);
    put(bits, size | (size ^ 0xffff) << 16, 32);
    write_out(bits);
    memcpy(bits->next, bytes, size);
    bits->next += size;
}

/* The tokens of some bytes, and codes for them. */
struct plan {
    const uint32_t *last_token;
    struct code literal_code, distance_code;
    uint64_t bits; /* of all tokens */
};

static void make_plan(
    const uint8_t *lines, size_t start, size_t end, const struct places *places, uint32_t *tokens, struct plan *plan)
{
    uint32_t literals[LITERALS] = {0}, distances[DISTANCES] = {0};
    plan->last_token = find_matches(lines, start, end, places, tokens);
    plan->bits = count_symbols(lines + start, tokens, plan->last_token, places, literals, distances);
    make_code(literals, LITERALS, MAX_BITS, &plan->literal_code);
    make_code(distances, DISTANCES, MAX_BITS, &plan->distance_code);
    for (int symbol = 0; symbol < LITERALS; symbol++)
        plan->bits += (uint64_t)literals[symbol] * plan->literal_code.lengths[symbol];
    for (int symbol = 0; symbol < DISTANCES; symbol++)
        plan->bits += (uint64_t)distances[symbol] * plan->distance_code.lengths[symbol];
}

INLINE bool is_noise(uint64_t packed_bits, size_t size)
{
    return packed_bits >= (8 * (uint64_t)size + 40) * NOISE_PERCENT / 100;
}

/* Whether the middle of a block is noise. A short block has none. */
static bool has_noise_inside(
    const uint8_t *lines, size_t start, size_t end, const struct places *places, uint32_t *tokens)
{
    struct plan plan;
    if (end - start < 4 * SAMPLE)
        return false;
    start += (end - start - SAMPLE) / 2;
    make_plan(lines, start, start + SAMPLE, places, tokens, &plan);
    return is_noise(plan.bits, SAMPLE);
}

/* Write a block. If `store_noise`, noise is stored. Then, if the block before was noise, a look inside is enough to tell
   that this one is too. Returns whether it is. */
static bool put_block(
    const uint8_t *lines, size_t start, size_t end, const struct places *places, bool store_noise, bool follows_noise,
    bool is_last, uint32_t *tokens, struct bits *bits)
{
    struct plan plan;
    struct head head;
    if (store_noise && follows_noise && has_noise_inside(lines, start, end, places, tokens)) {
        put_stored(lines + start, end - start, is_last, bits);
        return true;
    }
    make_plan(lines, start, end, places, tokens, &plan);
    const uint64_t packed = plan.bits + 3 + make_head(&plan.literal_code, &plan.distance_code, &head);
    const bool noise = is_noise(packed, end - start);
    if (packed >= 8 * (uint64_t)(end - start) + 40 || (store_noise && noise)) {
        put_stored(lines + start, end - start, is_last, bits);
        return noise;
    }
    const struct bits before = *bits;
    put(bits, is_last | 2 << 1, 3);
    put_head(&head, bits);
    put_tokens(lines + start, tokens, plan.last_token, places, &plan.literal_code, &plan.distance_code, bits);
    if (8 * (uint64_t)(bits->next - before.next) + bits->count - before.count > packed) {
        *bits = before; /* another thread has changed the lines since they were counted */
        put_stored(lines + start, end - start, is_last, bits);
    }
    return noise;
}

/* ---- streams ---- */

static struct places find_places(size_t line, size_t pixel)
{
    struct places places = {.count = 0};
    places.at[places.count++] = find_distance(1);
    if (pixel > 1)
        places.at[places.count++] = find_distance((uint32_t)pixel);
    if (line > pixel && line <= FARTHEST)
        places.at[places.count++] = find_distance((uint32_t)line);
    return places;
}

size_t packing_tokens(void)
{
    return BLOCK / SHORTEST + 2;
}

size_t packing_room(size_t size)
{
    const size_t block = size < BLOCK ? size : BLOCK, grown = block * (MAX_BITS - 8) / 8; /* of lines that change */
    return size + (size / BLOCK + 1) * 5 + grown + SLACK;
}

size_t pack_lines(
    const uint8_t *lines, size_t size, size_t line, size_t pixel, bool store_noise, uint32_t *tokens, uint8_t *stream)
{
    const struct places places = find_places(line, pixel);
    struct bits bits = {0, 0, stream};
    uint32_t adler = 1;
    bool noise = false;
    put(&bits, 0x0178, 16);
    write_out(&bits);
    for (size_t start = 0; start < size; start += BLOCK) {
        const size_t end = size - start < BLOCK ? size : start + BLOCK;
        noise = put_block(lines, start, end, &places, store_noise, noise, end == size, tokens, &bits);
        adler = extend_adler32(adler, lines + start, end - start);
    }
    fill_byte(&bits);
    for (int shift = 24; shift >= 0; shift -= 8)
        *bits.next++ = (uint8_t)(adler >> shift);
    return (size_t)(bits.next - stream);
}
