"""Lines in the user's files: how to find them, and how to write them."""

from __future__ import annotations

import os
import sysconfig
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Mapping, Sequence

_TORCH = f"{Path(getattr(find_spec('torch'), 'origin', None) or 'torch').parent}{os.sep}"  # without importing torch
_PYTHON = f"{sysconfig.get_path('stdlib')}{os.sep}"
_HERE = f"{Path(__file__).parents[1]}{os.sep}"
_NETWORKS = f"{Path(__file__).parents[1] / 'models' / 'pix2pix'}{os.sep}"


def run_model(model: Callable[..., Any], inputs: Sequence[Any], keywords: Mapping[str, Any] | None = None) -> Any:
    """Call a model. The frames outside of this call belong to the caller, so `find_user_line` ignores them."""
    return model(*inputs, **(keywords or {}))


def find_user_line(frame: types.FrameType | None) -> tuple[str, int] | None:
    """Return the file and line of the innermost frame, from `frame` outwards to `run_model`, in a user's file.

    Returns None if there is no such frame, for instance if the whole model is an `nn.Sequential`.
    """
    while frame is not None and frame.f_code is not run_model.__code__:
        if is_user_file(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


@lru_cache(maxsize=1 << 16)  # as many as there are modules, which are looked through one by one
def is_user_file(filename: str) -> bool:
    """Whether a file belongs neither to torch, nor to Python's library, nor to this project, except its networks."""
    if filename.startswith((_TORCH, "<frozen", "<string>", "<eval_with_key>")):
        return False
    if filename.startswith(_PYTHON):
        return "site-packages" in filename or "dist-packages" in filename
    return not filename.startswith(_HERE) or filename.startswith(_NETWORKS)


def format_location(source: tuple[str, int] | None) -> str | None:
    """Return a file and line as text: ``models/unet.py:41``.

    The file is relative to the working directory or to `site-packages`; otherwise it has its last two parts.
    """
    return None if source is None else f"{_format_path(source[0], str(Path.cwd()))}:{source[1]}"


@lru_cache(maxsize=4096)
def _format_path(file: str, working_directory: str) -> str:
    path = Path(file)
    if "site-packages" in path.parts:
        path = Path(*path.parts[path.parts.index("site-packages") + 1 :])
    elif path.is_relative_to(working_directory):
        path = path.relative_to(working_directory)
    else:
        path = Path(*path.parts[-2:])
    return path.as_posix()
