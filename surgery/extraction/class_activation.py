"""Grad-CAM: where in an image the channels are that a number of the output depends on."""

from __future__ import annotations

from dataclasses import replace

from surgery.builtin import DEFAULT_RECIPE
from surgery.drawing import make_activations, read_maps
from surgery.errors import RenderError
from surgery.graph import tensor_specs
from surgery.types import Activation


def grad_cam(activation: Activation) -> Activation:
    """Return the Grad-CAM of an activation that has a gradient: one map for each image, ``(B, 1, H, W)``, 0 or more.

    Each channel is weighted by the mean of its gradient over space, and what is positive in the sum of the channels is
    kept (Selvaraju et al., "Grad-CAM", ICCV 2017). The maps have the height and width of the activation, whose values
    are read as maps by its layout: tokens on a grid have maps too. The path of the result ends in ``.grad_cam``.

    Raises RenderError for an activation that has no gradient, or no maps.
    """
    if not isinstance(activation, Activation):
        raise RenderError(f"grad_cam takes an activation that surgery.record returned, not {type(activation).__name__}")
    if activation.gradient is None:
        raise RenderError(
            f"{activation.path} has no gradient; surgery.record(opened, image, gradients=...) computes it, unless the "
            "values are integers"
        )
    maps, gradients = read_maps(activation), read_maps(activation.gradient)
    if activation.layout.name == "vector" or maps.numel() == 0:
        raise RenderError(
            f"{activation.path} {activation.summary()} has no maps, which Grad-CAM weights; choose others"
        )
    weights = gradients.mean((2, 3), keepdim=True)
    cam = (weights * maps).sum(1, keepdim=True).relu()
    operation = replace(activation.operation, kind="grad_cam", tensors=tensor_specs(cam))
    (drawn,) = make_activations(operation, cam, None, DEFAULT_RECIPE)
    return replace(drawn, path=f"{activation.path}.grad_cam")
