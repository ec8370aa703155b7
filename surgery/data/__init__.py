"""The small trained model that ships, and its inputs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

_HERE = Path(str(files(__name__)))


def inputs() -> list[Path]:
    """The label maps of four façades that the model has not seen, 256 x 256 RGB."""
    return sorted((_HERE / "inputs").glob("*.png"))


def weights(name: str) -> Path:
    """The weights file called `name`: ``facades``, ``facades-discriminator``, ``facades-100``."""
    return _HERE / f"{name}.safetensors"
