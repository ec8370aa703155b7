"""A sink that makes an animated picture of every operation, and `surgery_video.animation.animate` for pictures at hand.

The sink's frames are the images of a run in order; those of `animate` may be anything: checkpoints, seeds, layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import surgery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import Sink


@surgery.hookimpl
def surgery_sinks() -> Mapping[str, Sink]:
    from surgery_video.sink import Video

    return {"video": Video()}
