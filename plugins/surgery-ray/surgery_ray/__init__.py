"""An engine that does a run with Ray: on the machines of a cluster, or in processes that Ray starts on this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import surgery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import Engine


@surgery.hookimpl
def surgery_engines() -> Mapping[str, Engine]:
    from surgery_ray.engine import Ray

    return {"ray": Ray()}
