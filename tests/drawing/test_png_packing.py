"""Deflate streams of the compiled kernels, read by zlib."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from surgery.drawing import compiled_kernels
from tests.drawing.examples import png_chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

kernels: Any = pytest.importorskip("surgery.drawing._kernels", reason="there was no compiler on installation")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
BLOCK = 65535


def packed(lines: NDArray[np.uint8], pixel: int = 1, *, store_noise: bool = False) -> bytes:
    """The stream, which zlib has to read to its end as the lines."""
    file = kernels.encode_png(SIGNATURE, lines, lines.shape[1], pixel, store_noise)
    (kind, stream), end = png_chunks(file)
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


def test_after_noise_the_middle_of_a_block_tells_whether_it_is_noise_too() -> None:
    noise = random_lines(2, "noise", 1, 3 * BLOCK)[0]
    blank, around, inside = noise.copy(), noise.copy(), noise.copy()
    blank[BLOCK : 2 * BLOCK] = 0
    around[BLOCK : 2 * BLOCK - 30_000] = 0  # the middle of the second block too
    inside[BLOCK : BLOCK + 30_000] = inside[2 * BLOCK - 30_000 : 2 * BLOCK] = 0  # all but its middle
    sizes = [len(packed(lines[None], store_noise=True)) / BLOCK for lines in (noise, blank, around, inside)]
    assert sizes == pytest.approx([3, 2, 2.46, 3], abs=0.02)
    assert len(packed(inside[None])) < 2.2 * BLOCK
    assert len(packed(inside[None, BLOCK : 2 * BLOCK], store_noise=True)) < 0.2 * BLOCK  # nothing comes before it


def test_the_same_lines_give_the_same_stream_on_every_machine() -> None:
    """Arithmetic alone decides. A changed stream would make the files of a resumed run differ from one another."""
    y, x = np.mgrid[:200, :331]
    pictures = ((x * x + 3 * y * y) >> 9 & 0x1F, (x >> 3) * (y >> 4) & 0xFF, x % 3 * 80 + (x // 30 * 7 + y // 5) % 90)
    found = [f"{zlib.crc32(packed(each.astype(np.uint8), pixel)):08x}" for each in pictures for pixel in (1, 3)]
    assert found == ["82d9a02f", "82d9a02f", "5d1adaf3", "5d1adaf3", "722c2c19", "fa569ee4"]


def test_the_packer_stays_within_its_memory_even_if_lines_change_meanwhile(tmp_path: Path) -> None:
    compiler, program = shutil.which("cc"), tmp_path / "packing"
    if compiler is None:
        pytest.skip("there is no C compiler")
    include, source = f"-I{Path(compiled_kernels.__file__).parent}", Path(__file__).parent / "packing_in_bounds.c"
    command = [
        compiler,
        "-O1",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        include,
        source,
        "-o",
        program,
    ]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("the C compiler has no sanitizers")
    changing = subprocess.run([program, "changing"], check=False, capture_output=True)
    assert (changing.returncode, changing.stderr) == (0, b"")
    steady = subprocess.run([program], check=False, capture_output=True)
    assert (steady.returncode, steady.stderr) == (0, b"")
    found, place = [], 0
    while place < len(steady.stdout):
        (size,) = struct.unpack_from("=I", steady.stdout, place)
        found.append(steady.stdout[place + 4 : place + 4 + size])
        place += 4 + size
    assert len(found) == 312
    for lines, stream in zip(found[::2], found[1::2], strict=True):
        assert zlib.decompress(stream) == lines


def test_lines_that_do_not_fit_are_refused() -> None:
    lines = np.zeros((3, 4), np.uint8)
    for line, pixel in ((5, 1), (0, 1), (-4, 1), (4, 0), (4, 9), (4, 1 << 31)):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.encode_png(b"", lines, line, pixel, False)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.encode_png(b"", lines[:0], 4, 1, False)
    with pytest.raises((ValueError, BufferError)):
        kernels.encode_png(b"", lines[:, ::2], 2, 1, False)
