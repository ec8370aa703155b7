"""The mean of each channel of an operation, as a function of the model's input that has gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from surgery.editing import region_slices
from surgery.errors import ImageError, SelectionError, SurgeryError, first_line
from surgery.graph import call_arguments, clone_inputs, contexts, named_tensors, unshare_parameters
from surgery.layouts import MapView, find_map_views
from surgery.rewriting import insert, listening, stop_after_last_extractor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from surgery.layouts import RequestedLayouts
    from surgery.types import Operation


class UnitValues:
    """Runs a model up to an operation, and reads the operation's channels.

    The model is a copy: its parameters get no gradients, and buffers of the original stay as they are.
    """

    def __init__(
        self,
        traced: nn.Module,
        operation: Operation,
        image_name: str,
        others: Mapping[str, Any],
        region: tuple[float, float, float, float] | None = None,
        layout: RequestedLayouts = None,
    ) -> None:
        """`image_name` is the input that is the image; `others` are the other inputs, by name."""
        self.operation = operation
        opened = stop_after_last_extractor(insert(traced, [operation]))
        unshare_parameters(opened)  # the user's own stay trainable
        self._model: nn.Module = opened.requires_grad_(requires_grad=False)
        self._view = find_map_views(traced, [operation], layout).get(operation.path, MapView())
        self._image_name = image_name
        self._others = dict(others)
        self._region = region

    def __call__(self, images: Tensor) -> Tensor:
        """Return the mean of each channel for each image, ``(N, C)``; see `maps`."""
        return self.maps(images).mean((2, 3))

    def maps(self, images: Tensor) -> Tensor:
        """Return the maps of the operation, ``(N, C, H, W)``, or the part of them in the region.

        Raises ImageError if the model does not take the images, and SelectionError if there are no such maps.
        """
        found: list[Tensor] = []

        def take(_operation: Operation, value: Any) -> None:
            tensors = [tensor for _, tensor in named_tensors(value) if tensor.is_floating_point()]
            if tensors and not found:
                found.append(self._view_maps(tensors[0], len(images)))

        inputs = {**clone_inputs(self._others), self._image_name: images}
        args, kwargs = call_arguments(self._model, inputs)
        try:
            with listening(self._model, take), contexts.closing():
                self._model(*args, **kwargs)
        except SurgeryError:
            raise
        except Exception as error:
            raise ImageError(f"the model does not take images of {tuple(images.shape)}: {first_line(error)}") from error
        if not found:
            raise SelectionError(f"{self.operation.path} computes no tensor of floats; choose another operation")
        maps = found[0]
        if self._region is None:
            return maps
        rows, columns = region_slices(self._region, *maps.shape[2:])
        return maps[:, :, rows, columns]

    def _view_maps(self, values: Tensor, images: int) -> Tensor:
        maps = self._view(values)
        if values.ndim < 2 or len(maps) != images or not maps.numel():
            given = f"{self.operation.path} {tuple(values.shape)}"
            raise SelectionError(f"{given} has no channels of each image; choose another operation")
        return maps
