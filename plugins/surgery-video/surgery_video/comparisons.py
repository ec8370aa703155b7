"""Animations of a comparison: what `surgery compare -o FOLDER` drew of each run, such as the epochs of a training."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from surgery import file_name
from surgery.errors import OutputError, describe_os_error, first_line
from surgery.types import Picture
from surgery_video.animation import animate
from surgery_video.formats import SUFFIXES, Format, check_options

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPARISON = "compared.json"


def animate_comparison(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    fps: float = 4,
    format: Format = "apng",  # noqa: A002
) -> list[Path]:
    """Write an animation of the output and of each channel that a comparison drew, whose frames are the runs in order.

    A color stands for the same value in all frames. `folder` is what `surgery compare -o` or `surgery.compare(out=)`
    wrote; the files go to a folder for each image in `out`. Returns the files.

    Raises OutputError for a folder without a comparison, for one in which less than two runs were drawn, for files that
    can't be read or written, and for options that are out of range.
    """
    check_options(fps, format)
    source, target = Path(folder), Path(out)
    try:
        runs = [str(run) for run in json.loads((source / _COMPARISON).read_text(encoding="utf-8"))["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{source} has no comparison in it: no {_COMPARISON} that can be read") from error
    written: list[Path] = []
    for part in sorted(path for path in source.iterdir() if path.is_dir() and path.resolve() != target.resolve()):
        for name, files in _find_frames(part, runs).items():
            if len(files) > 1:
                file = target / part.name / f"{name}{SUFFIXES[format]}"
                pictures = [_read(each) for each in files]
                with _unfinished(file) as unfinished:
                    animate(pictures, unfinished, fps=fps, format=format)
                written.append(file)
    if not written:
        raise OutputError(f"{source} has no pictures of two runs or more")
    return written


def _find_frames(folder: Path, runs: list[str]) -> dict[str, list[Path]]:
    """Return for the output and for each channel the pictures of the runs that have one, in their order."""
    found: dict[str, list[Path]] = {}
    outputs = [folder / f"output-{file_name(run)}.png" for run in runs]
    found["output"] = [file for file in outputs if file.is_file()]
    by_channel: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.glob("*.png")):
        note = _read_note(file)
        run, is_map = note.get("run"), "minus" not in note and "channel" in note
        if run in runs and is_map and file.stem.endswith(f"-{file_name(run)}"):
            by_channel.setdefault(file.stem.removesuffix(f"-{file_name(run)}"), {})[run] = file
    for name, files in by_channel.items():
        found[name] = [files[run] for run in runs if run in files]
    return found


def _read_note(file: Path) -> dict[str, Any]:
    with _open(file) as image:
        try:
            note = json.loads(image.info.get("surgery", "{}"))
        except ValueError:
            return {}
    return note if isinstance(note, dict) else {}


@contextmanager
def _unfinished(file: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes `file` if the block ends without an error. Raises OutputError."""
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(file)
    except OSError as error:
        raise OutputError(f"can't write {file}: {describe_os_error(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def _open(file: Path) -> Iterator[Image.Image]:
    """Yield an image. Raises OutputError if it can't be read in the block."""
    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError) as error:  # SyntaxError is Pillow's for a damaged PNG
        raise OutputError(f"can't read {file}: {first_line(error)}") from error


def _read(file: Path) -> Picture:
    with _open(file) as image:
        palette = image.getpalette()
        pixels = np.asarray(image)
    limits = np.zeros(1)
    colors = None if palette is None else np.resize(np.asarray(palette, np.uint8), (256, 3))
    return Picture(pixels, colors, limits, limits)
