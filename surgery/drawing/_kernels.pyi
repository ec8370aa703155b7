# Compiled from kernels.c, which says what they do. Arrays that do not fit each other raise ValueError.

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Grid: TypeAlias = tuple[int, int, int, int, int, int, int, int]

def extremes(values: NDArray[np.float32], found: NDArray[np.float32], /) -> bool: ...
def quantise(
    values: NDArray[np.float32], scales: NDArray[np.float32], canvas: NDArray[np.uint8], top: int, grid: Grid, /
) -> None: ...
def quantise_between_extremes(
    values: NDArray[np.float32], found: NDArray[np.float32], canvas: NDArray[np.uint8], top: int, grid: Grid, /
) -> bool: ...
def lay(codes: NDArray[np.uint8], canvas: NDArray[np.uint8], grid: Grid, /) -> None: ...
