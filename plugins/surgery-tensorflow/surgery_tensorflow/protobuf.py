"""Fields of a protocol-buffer message, read without the classes that TensorFlow generates for its messages.

The encoding is that of protobuf.dev/programming-guides/encoding: each field is a tag, which holds the field's number
and how its value is encoded, and the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Value: TypeAlias = "int | bytes"
"""A number, or the bytes of a text or of a message."""


class DamagedMessageError(ValueError):
    """Bytes that are no message of protocol buffers."""


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number that is encoded in 7-bit groups at a position, and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise DamagedMessageError("a number is cut short")


def iterate_fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Yield the number and the value of each field of a message, in their order."""
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        encoding = tag & 7
        value: Value
        if encoding == 0:
            value, position = read_varint(data, position)
        elif encoding in (1, 5):
            size = 8 if encoding == 1 else 4
            value = int.from_bytes(_take(data, position, size), "little")
            position += size
        elif encoding == 2:
            size, position = read_varint(data, position)
            value = _take(data, position, size)
            position += size
        else:
            raise DamagedMessageError(f"a field has the unknown encoding {encoding}")
        yield tag >> 3, value


def as_bytes(value: Value) -> bytes:
    """Return a value that must be bytes. Raises DamagedMessageError for a number."""
    if isinstance(value, int):
        raise DamagedMessageError("a number stands in place of a message")
    return value


def as_number(value: Value) -> int:
    """Return a value that must be a number. Raises DamagedMessageError for bytes."""
    if not isinstance(value, int):
        raise DamagedMessageError("a message stands in place of a number")
    return value


def as_text(value: Value) -> str:
    """Return a value that must be a text."""
    return as_bytes(value).decode("utf-8", "replace")


def _take(data: bytes, position: int, size: int) -> bytes:
    if size > len(data) - position:
        raise DamagedMessageError("a field is cut short")
    return data[position : position + size]
