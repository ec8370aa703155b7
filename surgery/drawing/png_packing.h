/* Deflate streams of the lines of pictures, and checksums. png_packing.c explains. */

#ifndef SURGERY_PNG_PACKING_H
#define SURGERY_PNG_PACKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The tokens and the bytes that `pack_lines` needs room for, the latter for `size` bytes of lines. */
size_t packing_tokens(void);
size_t packing_room(size_t size);

/* Write a zlib stream (RFC 1950) of `size` bytes, at least one: lines of `line` bytes with `pixel` bytes a pixel. If
   `store_noise`, parts that hardly shrink are stored, since that is faster. Returns the size of the stream. */
size_t pack_lines(
    const uint8_t *lines, size_t size, size_t line, size_t pixel, bool store_noise, uint32_t *tokens, uint8_t *stream);

/* Continue a CRC-32 (that of PNG and ZIP), which begins as 0. */
uint32_t extend_crc32(uint32_t crc, const uint8_t *bytes, size_t size);

/* Fill the tables, before anything else is called. */
void prepare_packing(void);

#endif
