"""What it costs to list and to read inputs: in files, tar shards, Parquet tables and at an address.

    python -m benchmarks.inputs [--rounds 7] [--images 300] [--members 40000]

Reading is the CPU time of an image that `surgery.load_image` reads alone, in turns, so that the ratios to files are of
one time. The address is in memory: the network costs nothing. Listing is that of very small members, with the names of
their folders in the output.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import statistics
import tarfile
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import fsspec
import numpy as np
import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

import surgery
from benchmarks.measurement import SCRATCH_FOLDER
from surgery.inputs import find_images
from surgery.inputs.input_files import InputFiles, Labels, local_copy
from surgery.text import ImageNames

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inputs", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=300, help="images of 256x256 that are read")
    parser.add_argument("--members", type=int, default=40_000, help="members that are listed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=SCRATCH_FOLDER) as folder:
        print_reading(write_sources(Path(folder), options.images), options.rounds)
        print_listing(Path(folder), options.members)


def write_sources(folder: Path, count: int) -> dict[str, str]:
    """Write the same images in each way. Return what names them."""
    images = [make_image(number) for number in range(count)]
    memory = fsspec.filesystem("memory")
    files = [folder / f"{number:06}.jpg" for number in range(count)]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(image)
        memory.pipe(f"/photos/{file.name}", image)
    with tarfile.open(folder / "photos.tar", "w") as tar:
        for file in files:
            tar.add(file, file.name)
    sources = {"files": f"{folder}/*.jpg", "a tar shard": f"{folder}/photos.tar", "an address": "memory://photos/*.jpg"}
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return sources
    parquet.write_table(pa.table({"image": images}), folder / "photos.parquet", row_group_size=100)
    return {**sources, "a Parquet table": f"{folder}/photos.parquet"}


def make_image(number: int) -> bytes:
    """Return a JPEG of smooth noise, of about 20 kB."""
    noise = np.random.default_rng(number).integers(0, 255, (SIDE // 4, SIDE // 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "jpeg", quality=90)
    return file.getvalue()


def print_reading(sources: dict[str, str], rounds: int) -> None:
    files = {name: find_images(images) for name, images in sources.items()}
    times = defaultdict[str, list[float]](list)
    for each in files.values():
        read(each)
    for _ in range(rounds):
        for name, each in files.items():
            times[name].append(cpu_of(partial(read, each))[1] / len(each))
    table = Table("images in", "CPU of an image", "times files", box=box.MARKDOWN)
    for name, own in times.items():
        ratios = [one / other for one, other in zip(own, times["files"], strict=True)]
        table.add_row(
            name,
            f"{1000 * statistics.median(own):.2f} ms",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    Console(width=120).print(table)


def read(files: InputFiles) -> None:
    for file in files:
        with local_copy(file) as path:
            surgery.load_image(path, size=SIDE)


def print_listing(folder: Path, count: int) -> None:
    table = Table("list of", "inputs", "CPU of an input", "of its name", "bytes with its name", box=box.MARKDOWN)
    for kind, make in {"files": make_list, "members of a tar shard": make_tar}.items():
        found, listing = cpu_of(partial(find_images, make(folder, count)))
        names, naming = cpu_of(partial(ImageNames, Labels(found)))
        size = len(pickle.dumps((found, names))) / count  # arrays and bytes, as they are in memory
        table.add_row(
            *(kind, f"{count:,}", f"{1e6 * listing / count:.1f} us", f"{1e6 * naming / count:.1f} us", f"{size:.0f}")
        )
    Console(width=120).print(table)


def make_list(folder: Path, count: int) -> str:
    file = folder / f"{count}.txt"
    file.write_text("".join(f"photos/{number:08}.jpg\n" for number in range(count)))
    return f"@{file}"


def make_tar(folder: Path, count: int) -> str:
    file = folder / f"{count}.tar"
    with tarfile.open(file, "w") as tar:
        for number in range(count):
            tar.addfile(tarfile.TarInfo(f"photos/{number:08}.jpg"))
    return str(file)


def cpu_of(call: Callable[[], T]) -> tuple[T, float]:
    """Return what a call returns, and the seconds of CPU time that it takes."""
    started = time.process_time()
    result = call()
    return result, time.process_time() - started


if __name__ == "__main__":
    main()
