"""A sink that writes exact values to a Zarr v3 store: one array per operation, with the images along its first axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import surgery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import Sink


@surgery.hookimpl
def surgery_sinks() -> Mapping[str, Sink]:
    from surgery_zarr.sink import Zarr

    return {"zarr": Zarr()}
