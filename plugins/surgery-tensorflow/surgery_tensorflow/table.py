"""The table in which TensorFlow stores the index of a tensor bundle: sorted keys with their values, in blocks.

The format is LevelDB's (github.com/google/leveldb/blob/main/doc/table_format.md): data blocks, a block that says where
these are, and a footer. Keys of a block share prefixes with the keys before them. A block is followed by the way in
which it is compressed and by its checksum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery_tensorflow.protobuf import DamagedMessageError, read_varint

if TYPE_CHECKING:
    from collections.abc import Iterator

FOOTER_SIZE = 48
_MAGIC = bytes.fromhex("57fb808b247547db")
_TRAILER_SIZE = 5
"""A byte for the compression, and four for the checksum of the block and this byte."""
_MASK_DELTA = 0xA282EAD8


def is_table(end: bytes) -> bool:
    """Return whether a file with these last bytes is a table."""
    return end.endswith(_MAGIC)


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Return the keys and values of a table. Raises DamagedMessageError if it is cut short or damaged."""
    if len(data) < FOOTER_SIZE or not is_table(data):
        raise DamagedMessageError("it does not end as an index does")
    footer = data[-FOOTER_SIZE:]
    metadata_block, position = _read_handle(footer, 0)
    index_block, _ = _read_handle(footer, position)
    _read_block(data, metadata_block)  # which TensorFlow leaves empty
    entries: dict[bytes, bytes] = {}
    for _, handle in _iterate_entries(_read_block(data, index_block)):
        for key, value in _iterate_entries(_read_block(data, _read_handle(handle, 0)[0])):
            if key in entries:
                raise DamagedMessageError("a key occurs twice")
            entries[key] = value
    return entries


def check_sum(data: bytes | memoryview, masked: int) -> bool:
    """Return whether the CRC-32C of bytes is the one that TensorFlow stored for them in its masked form."""
    import google_crc32c

    crc = google_crc32c.value(bytes(data) if isinstance(data, memoryview) else data)
    return bool(((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF == masked)


def _read_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Return the offset and the size of a block, and the position after them."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _read_block(data: bytes, handle: tuple[int, int]) -> bytes:
    offset, size = handle
    end = offset + size
    if end + _TRAILER_SIZE > len(data) - FOOTER_SIZE:
        raise DamagedMessageError("a block lies outside of the file")
    if not check_sum(data[offset : end + 1], int.from_bytes(data[end + 1 : end + _TRAILER_SIZE], "little")):
        raise DamagedMessageError("the checksum of a block is wrong")
    if data[end] != 0:
        raise DamagedMessageError("a block is compressed, which TensorFlow does not do")
    return data[offset:end]


def _iterate_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block. Its last number says how many positions of whole keys stand before it."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if len(block) < 4 or end < 0:
        raise DamagedMessageError("a block is cut short")
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        added, position = read_varint(block, position)
        size, position = read_varint(block, position)
        if shared > len(key) or position + added + size > end:
            raise DamagedMessageError("an entry is cut short")
        key = key[:shared] + block[position : position + added]
        position += added
        yield key, block[position : position + size]
        position += size
