"""PNG files: their chunks, and how they are written."""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from surgery.drawing import compiled_kernels, encode_png, png_files, save_png
from surgery.types import Picture
from tests.drawing.examples import png_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MAX_CHUNK = 2**31 - 1


def gray_picture(pixels: NDArray[np.uint8]) -> Picture:
    return Picture(pixels, np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1), np.zeros(1), np.ones(1))


def noise(height: int, width: int) -> Picture:
    return gray_picture(np.random.default_rng(0).integers(0, 256, (height, width), np.uint8))


@pytest.fixture(params=["compiled", "python"])
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By what files are packed and written."""
    if request.param == "python":
        monkeypatch.setattr(compiled_kernels, "kernels", None)
    elif compiled_kernels.kernels is None:
        pytest.skip("there was no compiler on installation")
    return str(request.param)


def test_a_picture_has_the_same_bytes_in_every_thread() -> None:
    random = np.random.default_rng(5)
    pictures = []
    for _ in range(300):
        height, width = random.choice([8, 16, 20, 40]), random.choice([8, 16, 20, 64])
        small = random.integers(0, random.choice([2, 4, 16, 255]), (height // 2, width // 2), np.uint8)
        pixels = small.repeat(2, 0).repeat(2, 1)
        pictures.append(gray_picture(pixels))

    def encode(_: int) -> list[bytes]:
        return [bytes(encode_png(picture)) for picture in pictures * 3]

    expected = encode(0)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(encode, range(16)):
            assert found == expected


@pytest.mark.usefixtures("writer")
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


@pytest.mark.usefixtures("writer")
@pytest.mark.parametrize(("name", "error"), [("", IsADirectoryError), ("no/a.png", FileNotFoundError)])
def test_a_file_that_cannot_be_written_is_named(name: str, error: type[OSError], tmp_path: Path) -> None:
    with pytest.raises(error) as raised:
        save_png(tmp_path / name, noise(2, 2))
    assert str(raised.value.filename) == str(tmp_path / name)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A named pipe, whose opening waits for a reader. The timer and its signal are put back in the end."""
    os.mkfifo(tmp_path / "a.png")
    former = signal.getsignal(signal.SIGALRM)
    yield tmp_path / "a.png"
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, former)


@pytest.mark.usefixtures("writer")
def test_a_file_is_whole_though_signals_interrupt_its_opening_and_its_writing(pipe: Path) -> None:
    picture, came, read = noise(700, 700), 0, b""  # more bytes than a pipe holds

    def note(*_: object) -> None:
        nonlocal came
        came += 1

    def wait_for_signals(count: int) -> None:
        while came < count:
            time.sleep(0.001)

    def read_late() -> None:
        nonlocal read
        wait_for_signals(2)
        with pipe.open("rb") as file:
            wait_for_signals(came + 2)
            read = file.read()

    signal.signal(signal.SIGALRM, note)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    reader = threading.Thread(target=read_late)
    reader.start()
    digest = save_png(pipe, picture)
    reader.join()
    assert read == encode_png(picture)
    assert digest == (f"{zlib.crc32(read):08x}", len(read))


@pytest.mark.usefixtures("writer")
@pytest.mark.parametrize("is_read", [False, True])  # so that opening, or writing, waits
def test_a_signal_can_end_the_wait_for_a_file(is_read: bool, pipe: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if is_read else None
    before = len(list(Path("/dev/fd").iterdir()))
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    with pytest.raises(KeyboardInterrupt):
        save_png(pipe, noise(700, 700))
    assert len(list(Path("/dev/fd").iterdir())) == before
    if reader is not None:
        os.close(reader)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process can't be limited")
def test_too_little_memory_is_an_error_that_leaves_no_file(tmp_path: Path) -> None:
    kernels = pytest.importorskip("surgery.drawing._kernels", reason="there was no compiler on installation")
    lines = np.zeros((1 << 10, 1 << 20), np.uint8)  # takes no memory, since nothing touches it
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20), limits[1]))
    try:
        with pytest.raises(MemoryError):
            kernels.encode_png(b"", lines, lines.shape[1], 1, True)
        with pytest.raises(OSError, match="Cannot allocate memory") as raised:
            kernels.write_png(tmp_path / "a.png", b"", lines, lines.shape[1], 1, True)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert raised.value.errno == errno.ENOMEM
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("most", "height", "width"), [(1, 2, 3), (7, 5, 6), (65535, 300, 400), (200_000, 300, 400)])
@pytest.mark.parametrize("level", [0, 1, 6])
def test_what_is_too_large_for_a_chunk_is_divided_among_several(
    most: int, height: int, width: int, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pixel_chunks() -> list[bytes]:
        return [content for kind, content in png_chunks(encode_png(noise(height, width), {}, level)) if kind == b"IDAT"]

    monkeypatch.setattr(compiled_kernels, "kernels", None)
    (whole,) = pixel_chunks()
    monkeypatch.setattr(png_files, "_MAX_CHUNK", most)
    parts = pixel_chunks()
    assert b"".join(parts) == whole
    assert [len(part) for part in parts[:-1]] == [most] * (len(parts) - 1)
    assert 0 < len(parts[-1]) <= most


def test_the_kernels_pack_only_what_fits_into_a_chunk_even_if_it_is_noise() -> None:
    kernels = pytest.importorskip("surgery.drawing._kernels", reason="there was no compiler on installation")
    lines = np.zeros((1, MAX_CHUNK + 1), np.uint8)  # takes no memory, since nothing touches it
    largest = next(
        size for size in range(MAX_CHUNK + 1, 0, -4096) if png_files._is_packed_by_kernels(lines[:, :size], 1)
    )
    assert largest + 5 * -(-largest // 65535) + 6 <= MAX_CHUNK  # all blocks stored
    assert largest > 0.99 * MAX_CHUNK
    for size in (MAX_CHUNK + 1, MAX_CHUNK, MAX_CHUNK - 5 * -(-MAX_CHUNK // 65535)):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.encode_png(b"", lines[:, :size], size, 1, True)
