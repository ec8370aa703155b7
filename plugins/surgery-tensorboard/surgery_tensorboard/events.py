"""Event files of TensorBoard: records of protocol buffers with checksums."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from surgery.errors import OutputError, describe_os_error

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

    from surgery import Picture

RGB = 3
"""TensorBoard's number of this color space."""
EXACT = 1 << 24
"""Counts up to this are exact in float32."""


class EventFile:
    """A new event file in a directory, numbered after the existing ones.

    It is flushed after each step, so TensorBoard can read it while it grows, and if the run is killed only the last
    step may be lost. It begins with TensorBoard's mark of a restart, which hides the steps of earlier files.
    """

    def __init__(self, directory: Path) -> None:
        """Create the file. Raises OutputError if it can't be written."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            numbers = [int(file.name.split(".")[3]) for file in directory.glob("events.out.tfevents.*.surgery")]
            self.path = directory / f"events.out.tfevents.{max(numbers, default=0) + 1:010}.surgery"
            self._file = self.path.open("xb")
        except OSError as error:
            raise OutputError(_describe_failure(directory, error)) from error
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        self._write(step=0, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, values: Iterable[Any]) -> None:
        """Write the values of one step. Raises OutputError if the file can't be written."""
        self._write(step=step, summary=Summary(value=values))

    def close(self) -> None:
        """Close the file. All steps have been flushed before."""
        self._file.close()

    def _write(self, **content: Any) -> None:
        try:
            self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
            self._file.flush()
        except OSError as error:
            raise OutputError(_describe_failure(self.path, error)) from error


def _describe_failure(path: Path, error: OSError) -> str:
    return f"can't write {path}: {describe_os_error(error)}"


def image(tag: str, picture: Picture) -> Any:
    """Return a picture as a summary value, encoded as PNG."""
    data = io.BytesIO()
    picture.image().save(data, "PNG", compress_level=1)
    height, width = picture.pixels.shape[:2]
    encoded = Summary.Image(height=height, width=width, colorspace=RGB, encoded_image_string=data.getvalue())
    return Summary.Value(tag=tag, image=encoded)


def scalar(tag: str, number: float) -> Any:
    """Return a number as a summary value, in float32."""
    return Summary.Value(tag=tag, simple_value=number)


def text(tag: str, words: str) -> Any:
    """Return a text in Markdown as a summary value."""
    return text_pb(tag, words).value[0]


def histogram(tag: str, values: Tensor, bins: int) -> Any:
    """Return a histogram of the finite values as a summary value, with `bins` bins of equal width.

    At least one value must be finite. Of complex values the magnitudes are counted.
    """
    values = values.detach().flatten()
    values = (values.abs() if values.is_complex() else values).to("cpu")
    values = values.float() if values.numel() < EXACT else values.double()
    values = values[values.isfinite()]
    low, high = float(values.min()), float(values.max())
    counts = values.histc(bins, low, high).tolist() if low < high else [float(values.numel())]
    step = (high - low) / len(counts)
    content = HistogramProto(
        min=low,
        max=high,
        num=values.numel(),
        sum=float(values.double().sum()),
        sum_squares=float(values.double().square().sum()),
        bucket_limit=[*(low + step * number for number in range(1, len(counts))), high],
        bucket=counts,
    )
    return Summary.Value(tag=tag, histo=content)
