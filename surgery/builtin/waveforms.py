"""The reader of sound: waveforms in WAV files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from surgery.errors import ImageError, first_line
from surgery.interrupts import raising_interrupts

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class WaveformReader:
    """Reads a WAV file of 8, 16, 24 or 32 bits as float32 from -1 to 1, at its own sampling rate.

    The tensor is ``(1, samples)``, the mean of the file's channels, or ``(1, channels, samples)`` with `channels`. With
    `rate`, in Hz, a file of another sampling rate is an error.
    """

    channels: bool = False
    rate: int | None = None
    suffixes: ClassVar[tuple[str, ...]] = (".wav",)

    def __call__(self, path: Path, /) -> Tensor:
        import wave

        import torch

        try:
            with raising_interrupts(), wave.open(str(path), "rb") as file:
                rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
                data = file.readframes(file.getnframes())
        except FileNotFoundError:
            raise ImageError(f"there is no file {path}") from None
        except Exception as error:
            raise ImageError(f"can't read {path} as sound: {type(error).__name__}: {first_line(error)}") from error
        if self.rate is not None and rate != self.rate:
            raise ImageError(f"{path} has {rate} samples a second, not {self.rate}; convert it first")
        frames = len(data) // (width * channels)
        if frames == 0:
            raise ImageError(f"{path} has no samples")
        samples = _decode(data[: frames * width * channels], width).reshape(frames, channels).T
        values = torch.from_numpy(samples.copy())[None]
        return values if self.channels else values.mean(1)


def _decode(data: bytes, width: int) -> Any:
    """Return samples of `width` bytes as float32 from -1 to 1."""
    import numpy as np

    raw = np.frombuffer(data, np.uint8).reshape(-1, width)
    if width == 1:
        return (raw[:, 0].astype(np.float32) - 128) / 128
    padded = np.zeros((len(raw), 4), np.uint8)
    padded[:, 4 - width :] = raw  # the upper bytes of 32 bits
    return (padded.view("<i4")[:, 0] / 2**31).astype(np.float32)
