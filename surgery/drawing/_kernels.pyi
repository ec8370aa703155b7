# Compiled from kernels.c, which documents these functions. They raise ValueError if the arrays do not fit each other.

from os import PathLike
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Grid: TypeAlias = tuple[int, int, int, int, int, int, int, int]

def find_extremes(values: NDArray[np.float32], extremes: NDArray[np.float32], /) -> bool: ...
def quantize(
    values: NDArray[np.float32], scales: NDArray[np.float32], canvas: NDArray[np.uint8], top: int, grid: Grid, /
) -> None: ...
def quantize_between_extremes(
    values: NDArray[np.float32], extremes: NDArray[np.float32], canvas: NDArray[np.uint8], top: int, grid: Grid, /
) -> bool: ...
def tile_codes(codes: NDArray[np.uint8], canvas: NDArray[np.uint8], grid: Grid, /) -> None: ...
def color_lines(lines: NDArray[np.uint8], palette: NDArray[np.uint8], canvas: NDArray[np.uint8], /) -> None: ...
def find_moments(values: NDArray[np.float32], moments: NDArray[np.float64], /) -> bool: ...
def encode_png(head: bytes, lines: NDArray[np.uint8], line: int, pixel: int, store_noise: bool, /) -> bytes: ...
def write_png(
    path: str | PathLike[str], head: bytes, lines: NDArray[np.uint8], line: int, pixel: int, store_noise: bool, /
) -> tuple[int, int]: ...  # not on Windows
