/* Packs lines of many kinds and sizes, for the sanitizers of the compiler to watch: all memory has exactly the size that
   is asked for. With an argument, the lines change after they were counted, as if by another thread. Writes the streams
   to standard output, each behind its size and the lines behind theirs. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void change_lines(void);
#define memset(...) (change_lines(), memset(__VA_ARGS__)) /* is called between the two passes over a block */
#include "png_packing.c"
#undef memset

static uint64_t state = 1;
static uint8_t *lines;
static size_t size;
static bool are_changing;

static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

static void draw_lines(uint32_t codes, uint32_t repeated)
{
    for (size_t i = 0; i < size; i++)
        lines[i] = i && draw(100) < repeated ? lines[i - 1] : (uint8_t)draw(codes);
}

static void change_lines(void)
{
    if (are_changing)
        draw_lines(256, 0);
}

static void write_sized(const uint8_t *bytes, uint32_t count)
{
    fwrite(&count, 4, 1, stdout);
    fwrite(bytes, 1, count, stdout);
}

int main(int count, char **arguments)
{
    static const size_t SIZES[] = {1, 4, 5, 31, 32, 33, 258, 259, 3000, 65534, 65535, 65536, 131075};
    static const size_t LINES[] = {1, 2, 31, 259, 32768, 32769};
    (void)arguments;
    are_changing = count > 1;
    prepare_packing();
    for (int turn = 0; turn < 156; turn++) {
        size = SIZES[turn % 13];
        lines = malloc(size);
        draw_lines(1 + draw(draw(2) ? 256 : 4), 25 * draw(5));
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
