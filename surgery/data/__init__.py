"""The data that ships with the project: trained weights of small models, label maps to run them on, and a font.

A name comes in; the path of a file goes out.
"""

from __future__ import annotations

from pathlib import Path

from surgery.errors import ModelError, did_you_mean

_FOLDER = Path(__file__).parent


def inputs() -> list[Path]:
    """Return the shipped label maps: PNG files of 256 x 256 pixels that the model was not trained on."""
    return sorted((_FOLDER / "inputs").glob("*.png"))


def font() -> Path:
    """Return the shipped font, DejaVu Sans. It has Latin, Greek, Cyrillic and more, but no CJK characters."""
    return _FOLDER / "DejaVuSans.ttf"


def weights(name: str = "facades") -> Path:
    """Return the shipped weights file of that name, such as ``facades`` or ``facades-discriminator``.

    ``facades-100``, ``facades-300`` and ``facades-1000`` are from earlier in the training. Raises ModelError for an
    unknown name.
    """
    path = _FOLDER / f"{name}.safetensors"
    if not path.is_file():
        known = sorted(path.stem for path in _FOLDER.glob("*.safetensors"))
        raise ModelError(
            f"no shipped weights are called {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}"
        )
    return path
