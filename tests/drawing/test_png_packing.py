"""Deflate streams of the compiled kernels, read by zlib."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from surgery.drawing import compiled_kernels, encode_png, save_png
from surgery.types import Picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

kernels: Any = pytest.importorskip("surgery.drawing._kernels", reason="there was no compiler on installation")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
BLOCK = 65535


def chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    """The kinds and contents of chunks, whose checksums are right."""
    found, place = [], len(SIGNATURE)
    while place < len(file):
        (size,) = struct.unpack_from(">I", file, place)
        whole = file[place + 4 : place + 8 + size]
        assert struct.unpack_from(">I", file, place + 8 + size) == (zlib.crc32(whole),)
        found.append((whole[:4], whole[4:]))
        place += 12 + size
    return found


def packed(lines: NDArray[np.uint8], pixel: int = 1, *, store_noise: bool = False) -> bytes:
    """The stream, which zlib has to read to its end as the lines."""
    file = kernels.encode_png(SIGNATURE, lines, lines.shape[1], pixel, store_noise)
    (kind, stream), end = chunks(file)
    assert (kind, end) == (b"IDAT", (b"IEND", b""))
    reader = zlib.decompressobj()
    assert reader.decompress(stream) == lines.tobytes()
    assert reader.eof
    assert not reader.unused_data
    return stream


def random_lines(seed: int, kind: str, height: int, width: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    draw: dict[str, Callable[[], Any]] = {
        "noise": lambda: random.integers(0, 256, (height, width)),
        "constant": lambda: np.full((height, width), random.integers(0, 256)),
        "few codes": lambda: random.integers(0, random.integers(2, 20), (height, width)),
        "bell": lambda: random.normal(128, random.uniform(0.1, 60), (height, width)).clip(0, 255),
        "wide pixels": lambda: random.integers(0, 256, (height, -(-width // 7))).repeat(7, 1)[:, :width],
        "equal lines": lambda: random.integers(0, 256, (-(-height // 3), width)).repeat(3, 0)[:height],
        "mostly zero": lambda: (random.random((height, width)) < 0.02) * random.integers(1, 256, (height, width)),
        "half constant": lambda: np.where(random.random((height, width)) < 0.5, random.integers(0, 256), 7),
    }
    return np.ascontiguousarray(draw[kind]().astype(np.uint8))


KINDS = ("noise", "constant", "few codes", "bell", "wide pixels", "equal lines", "mostly zero", "half constant")


@settings(max_examples=300, deadline=None)
@given(
    some.integers(0, 1000),
    some.sampled_from(KINDS),
    some.integers(1, 300),
    some.sampled_from((1, 2, 3, 4, 31, 32, 33, 64, 257, 258, 259, 1000)),
    some.sampled_from((1, 3)),
    some.booleans(),
)
def test_lines_of_any_kind_come_back(
    seed: int, kind: str, height: int, width: int, pixel: int, store_noise: bool
) -> None:
    packed(random_lines(seed, kind, height, width), pixel, store_noise=store_noise)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 5])
@pytest.mark.parametrize("height", [1, 2, 5])
def test_lines_come_back_at_the_limits_of_blocks_and_beyond_the_window(kind: str, size: int, height: int) -> None:
    packed(random_lines(size, kind, height, size // height))


def test_frequencies_that_ask_for_long_codes_get_shorter_ones() -> None:
    counts = [1, 1]
    while sum(counts) < BLOCK - 3000:
        counts.append(counts[-1] + counts[-2])  # a code of least redundancy would have a bit more for each of these
    codes = np.repeat(np.arange(len(counts), dtype=np.uint8) * 7, counts)
    assert len(counts) > 20
    packed(np.random.default_rng(0).permutation(codes)[None])


@pytest.mark.parametrize(("kind", "most"), [("constant", 0.01), ("wide pixels", 0.35), ("equal lines", 0.35)])
def test_repetition_is_found(kind: str, most: float) -> None:
    lines = random_lines(3, kind, 300, 301)
    assert len(packed(lines)) < most * lines.size


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_hardly_larger_than_the_lines_or_than_that_of_zlib(kind: str) -> None:
    lines = random_lines(5, kind, 400, 401)
    size = len(packed(lines))
    assert size <= lines.size + 5 * (lines.size // BLOCK + 1) + 6
    assert size <= 1.2 * len(zlib.compress(lines, 1)) + 100


def test_only_noise_is_stored_where_that_is_faster() -> None:
    noise, few = random_lines(1, "noise", 300, 301), random_lines(1, "few codes", 300, 301)
    assert noise.tobytes()[:1000] in packed(noise, store_noise=True)
    assert packed(few, store_noise=True) == packed(few)
    both = np.concatenate([noise, np.zeros_like(noise)])
    assert len(packed(both, store_noise=True)) < 0.6 * both.size  # block by block


def test_the_same_lines_give_the_same_stream_on_every_machine() -> None:
    """Arithmetic alone decides. A changed stream would make the files of a resumed run differ from one another."""
    y, x = np.mgrid[:200, :331]
    pictures = ((x * x + 3 * y * y) >> 9 & 0x1F, (x >> 3) * (y >> 4) & 0xFF, x % 3 * 80 + (x // 30 * 7 + y // 5) % 90)
    found = [f"{zlib.crc32(packed(each.astype(np.uint8), pixel)):08x}" for each in pictures for pixel in (1, 3)]
    assert found == ["0382f57f", "0382f57f", "0b060e8a", "0b060e8a", "dd2dbcc0", "fa569ee4"]


def test_a_file_is_written_as_it_is_encoded(tmp_path: Path) -> None:
    for level in range(1, 4):
        for shape in ((1, 1), (40, 30), (300, 500), (20, 30, 3)):
            pixels = np.random.default_rng(0).integers(0, 9, shape, np.uint8)
            palette = np.zeros((256, 3), np.uint8) if len(shape) == 2 else None
            picture = Picture(pixels, palette, np.zeros(1), np.ones(1))
            content = encode_png(picture, {"surgery": b"{}"}, level)
            digest = save_png(tmp_path / "a.png", picture, {"surgery": b"{}"}, level)
            assert (tmp_path / "a.png").read_bytes() == content
            assert digest == (f"{zlib.crc32(content):08x}", len(content))


@pytest.mark.parametrize(("name", "error"), [("", IsADirectoryError), ("no/a.png", FileNotFoundError)])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_file_that_cannot_be_written_is_named(
    name: str, error: type[OSError], compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(compiled_kernels, "kernels", None)
    picture = Picture(np.zeros((2, 2), np.uint8), np.zeros((256, 3), np.uint8), np.zeros(1), np.ones(1))
    with pytest.raises(error) as raised:
        save_png(tmp_path / name, picture)
    assert str(raised.value.filename) == str(tmp_path / name)


def test_lines_that_do_not_fit_are_refused() -> None:
    lines = np.zeros((3, 4), np.uint8)
    for line, pixel in ((5, 1), (0, 1), (-4, 1), (4, 0)):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.encode_png(b"", lines, line, pixel, False)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.encode_png(b"", lines[:0], 4, 1, False)
    with pytest.raises((ValueError, BufferError)):
        kernels.encode_png(b"", lines[:, ::2], 2, 1, False)
