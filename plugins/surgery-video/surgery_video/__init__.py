"""A sink that writes an animated picture of each operation, and a function that animates any pictures.

The frames of the sink are the images of a run. `surgery_video.animation.animate` takes pictures of anything:
checkpoints, seeds, layers.
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
