# Compiled from kernels.c, which says what they do. Arrays that do not fit each other raise ValueError.

import numpy as np
from numpy.typing import NDArray

def extremes(values: NDArray[np.float32], found: NDArray[np.float32], /) -> bool: ...
def quantise(
    values: NDArray[np.float32], scales: NDArray[np.float32], codes: NDArray[np.uint8], top: int, /
) -> None: ...
def quantise_between_extremes(
    values: NDArray[np.float32], found: NDArray[np.float32], codes: NDArray[np.uint8], top: int, /
) -> bool: ...
def lay(
    codes: NDArray[np.uint8],
    canvas: NDArray[np.uint8],
    images: int,
    count: int,
    height: int,
    width: int,
    columns: int,
    factor: int,
    gap: int,
    background: int,
    /,
) -> None: ...
