"""Sample files that checks give to readers: small valid ones of common kinds, and invalid ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def write_valid_files(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Write a small valid file for each of `suffixes` whose content is well known, and yield its path."""
    values = np.random.default_rng(0).standard_normal((1, 3, 8, 6)).astype(np.float32)
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8))
    for suffix in suffixes:
        file = folder / f"good{suffix}"
        if suffix == ".npy":
            np.save(file, values)
        elif suffix == ".npz":
            np.savez(file, x=values)
        elif suffix in (".pt", ".pth"):
            torch.save(torch.from_numpy(values), file)
        elif suffix in (".txt", ".csv"):
            rows = values[0, 0].tolist()
            file.write_text("\n".join((" " if suffix == ".txt" else ",").join(map(str, row)) for row in rows))
        elif suffix in (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"):
            pixels.save(file)
        else:
            continue
        yield file


def write_invalid_files(folder: Path, suffixes: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Write invalid files with the first of `suffixes`; yield a name and the path of each."""
    suffix = suffixes[0] if suffixes else ".bin"
    yield "a file that is not there", folder / f"gone{suffix}"
    empty = folder / f"empty{suffix}"
    empty.write_bytes(b"")
    yield "an empty file", empty
    noise = folder / f"noise{suffix}"
    noise.write_bytes(bytes(np.random.default_rng(0).integers(0, 256, 300, np.uint8)))
    yield "a file of random bytes", noise
    directory = folder / f"folder{suffix}"
    directory.mkdir()
    yield "a folder", directory
    for good in write_valid_files(folder, suffixes[:1]):
        cut = folder / f"cut{suffix}"
        cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
        yield f"half of a {suffix} file", cut
