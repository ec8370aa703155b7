/* Packs lines of many kinds and sizes, watched by the sanitizers of the compiler: all memory has exactly the size that
   is asked for. With an argument, the lines of a block change after they were counted, as if by another thread. Writes the
   lines and their stream to standard output, by turns, each after its size. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void change_lines(void);
#define memset(...) (change_lines(), memset(__VA_ARGS__)) /* three codes are made between the two passes over a block */
#include "png_packing.c"
#undef memset

static uint64_t state = 1;
static uint8_t *lines;
static size_t size;
static bool are_changing;
static size_t codes_made;

static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* Some bytes of a hundred are that before, and some of the others have any code: these have codes of many bits. */
static void draw_lines(size_t start, size_t end, uint32_t codes, uint32_t any, uint32_t repeated)
{
    for (size_t i = start; i < end; i++)
        lines[i] = i && draw(100) < repeated ? lines[i - 1] : (uint8_t)draw(draw(100) < any ? 256 : codes);
}

static void change_lines(void)
{
    const size_t start = codes_made++ / 3 * BLOCK, left = size - start;
    if (are_changing)
        draw_lines(start, left < BLOCK ? size : start + BLOCK, 256, 0, 0);
}

static void write_sized(const uint8_t *bytes, uint32_t count)
{
    fwrite(&count, 4, 1, stdout);
    fwrite(bytes, 1, count, stdout);
}

int main(int count, char **arguments)
{
    static const size_t SIZES[] = {1, 4, 5, 31, 32, 33, 258, 259, 3000, 65534, 65535, 65536, 262145};
    static const size_t LINES[] = {1, 2, 31, 259, 32768, 32769};
    (void)arguments;
    are_changing = count > 1;
    prepare_packing();
    for (int turn = 0; turn < 156; turn++) {
        size = SIZES[turn % 13];
        lines = malloc(size);
        codes_made = 0;
        draw_lines(0, size, 1 + draw(draw(2) ? 256 : 4), 3 * draw(2), draw(2) ? 0 : 25 * draw(5));
        uint32_t *tokens = malloc(packing_tokens() * sizeof(uint32_t));
        uint8_t *stream = malloc(packing_room(size));
        write_sized(lines, (uint32_t)size);
        write_sized(stream, (uint32_t)pack_lines(lines, size, LINES[turn % 6], 1 + turn % 8, turn % 2, tokens, stream));
        free(lines);
        free(tokens);
        free(stream);
    }
    return 0;
}
