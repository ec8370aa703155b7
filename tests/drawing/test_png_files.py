"""The bytes of a PNG file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from surgery.drawing import encode_png
from surgery.types import Picture


def test_a_picture_has_the_same_bytes_in_every_thread() -> None:
    random = np.random.default_rng(5)
    pictures = []
    for _ in range(300):
        height, width = random.choice([8, 16, 20, 40]), random.choice([8, 16, 20, 64])
        small = random.integers(0, random.choice([2, 4, 16, 255]), (height // 2, width // 2), np.uint8)
        pixels = small.repeat(2, 0).repeat(2, 1)
        pictures.append(Picture(pixels, np.zeros((256, 3), np.uint8), np.zeros(1), np.ones(1)))

    def encode(_: int) -> list[bytes]:
        return [bytes(encode_png(picture)) for picture in pictures * 3]

    expected = encode(0)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(encode, range(16)):
            assert found == expected
