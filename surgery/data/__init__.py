"""The small trained model that ships, and label maps to run it on."""

from __future__ import annotations

from pathlib import Path

from surgery.errors import ModelError, did_you_mean

_HERE = Path(__file__).parent


def inputs() -> list[Path]:
    """The shipped label maps: PNG files of 256 x 256 pixels, which the model has not seen in training."""
    return sorted((_HERE / "inputs").glob("*.png"))


def font() -> Path:
    """The shipped font, DejaVu Sans: Latin, Greek, Cyrillic and more, no Chinese, Japanese or Korean."""
    return _HERE / "DejaVuSans.ttf"


def weights(name: str = "facades") -> Path:
    """The shipped weights of that name: ``facades``, ``facades-discriminator`` or an earlier ``facades-300``.

    Raises ModelError where none is called so.
    """
    path = _HERE / f"{name}.safetensors"
    if not path.is_file():
        known = sorted(path.stem for path in _HERE.glob("*.safetensors"))
        raise ModelError(
            f"no shipped weights are called {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}"
        )
    return path
