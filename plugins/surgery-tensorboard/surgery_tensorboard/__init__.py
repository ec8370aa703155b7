"""A sink that writes event files of TensorBoard: pictures, statistics and a histogram of each operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import surgery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import Sink


@surgery.hookimpl
def surgery_sinks() -> Mapping[str, Sink]:
    from surgery_tensorboard.sink import TensorBoard

    return {"tensorboard": TensorBoard()}
