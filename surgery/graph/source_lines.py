"""The user's lines: which frames are theirs, and how a line is written."""

from __future__ import annotations

import os
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Mapping, Sequence

_TORCH = f"{Path(getattr(find_spec('torch'), 'origin', None) or 'torch').parent}{os.sep}"  # not imported for it
_PYTHON = f"{sysconfig.get_path('stdlib')}{os.sep}"
_HERE = f"{Path(__file__).parents[1]}{os.sep}"
_NETWORKS = f"{Path(__file__).parents[1] / 'models' / 'pix2pix'}{os.sep}"


def run_model(model: Callable[..., Any], inputs: Sequence[Any], keywords: Mapping[str, Any] | None = None) -> Any:
    """Call a model. The frames outside this call belong to whoever runs the model, and are no lines of the model."""
    return model(*inputs, **(keywords or {}))


def find_user_line(frame: types.FrameType | None) -> tuple[str, int] | None:
    """File and line of the model's innermost frame that is neither torch's, nor Python's own, nor ours.

    None where no line of the model's own makes the call, as in an `nn.Sequential` that is the whole model.
    """
    while frame is not None and frame.f_code is not run_model.__code__:
        if is_user_file(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def is_user_file(filename: str) -> bool:
    """Whether a file is neither torch's, nor of Python's own library, nor part of the tracing itself."""
    if filename.startswith((_TORCH, "<frozen", "<string>", "<eval_with_key>")):
        return False
    if filename.startswith(_PYTHON):
        return "site-packages" in filename or "dist-packages" in filename
    return not filename.startswith(_HERE) or filename.startswith(_NETWORKS)


def format_location(source: tuple[str, int] | None) -> str | None:
    """``models/unet.py:41``: relative to the working directory, or to where packages are installed."""
    if source is None:
        return None
    path, line = Path(source[0]), source[1]
    if "site-packages" in path.parts:
        path = Path(*path.parts[path.parts.index("site-packages") + 1 :])
    elif path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    else:
        path = Path(*path.parts[-2:])
    return f"{path.as_posix()}:{line}"
