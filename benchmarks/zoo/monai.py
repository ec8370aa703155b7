"""The networks of MONAI, small, most of them in two dimensions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.zoo.monai_networks import NETWORKS
from benchmarks.zoo.zoo_model import ZooModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def list_models() -> Iterator[ZooModel]:
    """Yield a small model of each network."""
    for name, (takes, options) in NETWORKS.items():
        yield ZooModel("monai", name, partial(_build, name, options), (), ("monai",), takes)


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    from monai.networks import nets

    model: nn.Module = getattr(nets, name.partition("-")[0])(**options)
    return model
