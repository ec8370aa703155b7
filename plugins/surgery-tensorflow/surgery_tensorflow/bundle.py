"""Tensor bundles: the files ``NAME.index`` and ``NAME.data-00000-of-00001`` in which TensorFlow saves variables.

The index is a table of messages, one for each tensor: dtype, shape, place and checksum (tensorflow/core/protobuf/
tensor_bundle.proto). No class of TensorFlow is needed to read it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from surgery.errors import CheckpointError, describe_os_error
from surgery_tensorflow.protobuf import DamagedMessageError, as_bytes, as_number, iterate_fields, read_varint
from surgery_tensorflow.stored_values import StoredVariable
from surgery_tensorflow.table import check_sum, read_table

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX = ".index"
_MAX_INDEX_SIZE = 1 << 28
_MAX_STRING_SIZE = 1 << 28
_DTYPES: dict[int, str] = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2", 14: "<u2"}
"""NumPy's names of the dtypes that weights have, by TensorFlow's numbers. bfloat16 is read by its bits."""
_BFLOAT16, _STRING = 14, 7


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a tensor is, and what it is."""

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0
    is_sliced: bool = False


class Bundle:
    """The tensors of a bundle by their keys.

    Raises CheckpointError, which says what is wrong, for an index that is cut short or damaged, and for tensors that
    don't fit the files of data.
    """

    def __init__(self, index: Path) -> None:
        self.index = index
        try:
            size = index.stat().st_size
            if size > _MAX_INDEX_SIZE:
                raise CheckpointError(f"{index} has {size:,} bytes, and an index of a TensorFlow checkpoint has fewer")
            table = read_table(index.read_bytes())
            self._shards = _read_shard_count(table.pop(b"", b""))
            self._entries = {key.decode("utf-8", "replace"): _read_entry(value) for key, value in table.items()}
        except DamagedMessageError as error:
            raise CheckpointError(f"{index} is a cut or damaged index of a TensorFlow checkpoint: {error}") from error
        except OSError as error:
            raise CheckpointError(f"can't read {index}: {describe_os_error(error)}") from error

    def variables(self) -> dict[str, StoredVariable]:
        """Return all tensors of numbers, by their keys in the order of the file."""
        return {
            key: StoredVariable(entry.shape, lambda key=key, entry=entry: self._read_numbers(key, entry))  # type: ignore[misc]
            for key, entry in self._entries.items()
            if entry.dtype in _DTYPES and not entry.is_sliced
        }

    def read_string(self, key: str) -> bytes | None:
        """Return the bytes of a tensor of one string; None if there is none of this key."""
        entry = self._entries.get(key)
        if entry is None or entry.dtype != _STRING or entry.shape:
            return None
        data = self._read_bytes(key, entry, checked=False)  # the checksum of strings is of another form
        try:
            size, position = read_varint(data, 0)
        except DamagedMessageError as error:
            raise CheckpointError(f"{self.index}: {key} is damaged") from error
        if position + 4 + size != len(data):  # behind the size is a checksum of it
            raise CheckpointError(f"{self.index}: {key} is damaged")
        return data[position + 4 :]

    def _read_numbers(self, key: str, entry: _Entry) -> NDArray[np.generic]:
        dtype = np.dtype(_DTYPES[entry.dtype])
        if entry.size != math.prod(entry.shape) * dtype.itemsize:
            raise CheckpointError(f"{self.index}: {key} has {entry.size} bytes, which are not those of {entry.shape}")
        values = np.frombuffer(self._read_bytes(key, entry, checked=True), dtype)
        if entry.dtype == _BFLOAT16:
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(entry.shape)

    def _read_bytes(self, key: str, entry: _Entry, *, checked: bool) -> bytes:
        if entry.shard >= self._shards:
            raise CheckpointError(f"{self.index}: {key} is in part {entry.shard + 1} of {self._shards}")
        shard = self._find_shard(entry.shard)
        if not checked and entry.size > _MAX_STRING_SIZE:
            raise CheckpointError(f"{self.index}: {key} has {entry.size:,} bytes, which is too many")
        try:
            if entry.offset + entry.size > (length := shard.stat().st_size):
                raise CheckpointError(f"{shard} is cut short: {key} ends after its {length:,} bytes; fetch it again")
            with shard.open("rb") as file:
                file.seek(entry.offset)
                data = file.read(entry.size)
        except OSError as error:
            raise CheckpointError(f"can't read {shard}: {describe_os_error(error)}") from error
        if checked and not check_sum(data, entry.checksum):
            raise CheckpointError(f"{shard} is damaged: the checksum of {key} is wrong; fetch it again")
        return data

    def _find_shard(self, number: int) -> Path:
        """Return the file of a shard, which is beside the index. Raises CheckpointError if it is not there."""
        stem = self.index.name.removesuffix(SUFFIX)
        shard = self.index.with_name(f"{stem}.data-{number:05}-of-{self._shards:05}")
        if not shard.is_file():
            raise CheckpointError(f"{self.index} lacks its file {shard.name}; copy all files of the checkpoint here")
        if shard.is_symlink() and shard.resolve().parent != self.index.resolve().parent:
            raise CheckpointError(f"{shard} is a link that leads out of its folder; put the file itself there")
        return shard


def _read_shard_count(header: bytes) -> int:
    fields = dict(iterate_fields(header))
    if as_number(fields.get(2, 0)) != 0:
        raise DamagedMessageError("its numbers are big-endian, which is not supported")
    count = as_number(fields.get(1, 0))
    if not 1 <= count <= 99999:
        raise DamagedMessageError(f"it has {count} files of data")
    return count


def _read_entry(message: bytes) -> _Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: tuple[int, ...] = ()
    is_sliced = False
    for number, value in iterate_fields(message):
        if number == 2:
            shape = _read_shape(as_bytes(value))
        elif number == 7:
            is_sliced = True
        elif number in numbers:
            numbers[number] = as_number(value)
    return _Entry(numbers[1], shape, numbers[3], numbers[4], numbers[5], numbers[6], is_sliced)


def _read_shape(message: bytes) -> tuple[int, ...]:
    sides = []
    for number, value in iterate_fields(message):
        if number == 2:
            side = as_number(dict(iterate_fields(as_bytes(value))).get(1, 0))
            if side >= 1 << 62:
                raise DamagedMessageError("a shape has a negative side")
            sides.append(side)
    return tuple(sides)
