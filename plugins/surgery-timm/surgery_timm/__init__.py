"""Models of timm by name, with their weights and preprocessing: ``timm/resnet18``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import surgery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import ModelFamily


@surgery.hookimpl
def surgery_models() -> Mapping[str, ModelFamily]:
    from surgery.stages import ModelFamily
    from surgery_timm.models import build, names, trained

    return {"timm": ModelFamily(build, names, trained)}
