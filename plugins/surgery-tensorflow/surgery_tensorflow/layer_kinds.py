"""What a stored layer is, by the names and shapes of its variables: a convolution or a norm, with PyTorch's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from surgery.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from surgery_tensorflow.stored_values import StoredLayer, StoredVariable

NormKind: TypeAlias = Literal["batch", "instance"]


@dataclass(frozen=True, slots=True)
class StoredConvolution:
    """A convolution with kernels ``(kh, kw, in, out)``, of a transposed one ``(kh, kw, out, in)``.

    Those of a depthwise one are ``(kh, kw, in, 1)``.
    """

    path: str
    kernel: StoredVariable
    bias: StoredVariable | None
    is_depthwise: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the kernel as it is stored."""
        one, two, three, four = self.kernel.shape
        return one, two, three, four

    @property
    def bias_size(self) -> int | None:
        """The number of the bias' values; None without a bias."""
        return None if self.bias is None else self.bias.shape[0]

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield PyTorch's weights: kernels of both other kinds become PyTorch's by the same permutation."""
        axes = (2, 3, 0, 1) if self.is_depthwise else (3, 2, 0, 1)
        yield "weight", _read(self.path, self.kernel).permute(axes).contiguous()
        if self.bias is not None:
            yield "bias", _read(self.path, self.bias)


@dataclass(frozen=True, slots=True)
class StoredNorm:
    """A normalization layer."""

    path: str
    kind: NormKind
    variables: tuple[StoredVariable, ...]
    """Scale and offset, and mean and variance if there are any."""

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.variables[0].shape[0]

    def weights(self, *, tracked: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield PyTorch's weights; the statistics of the training if they are `tracked`."""
        names = ("weight", "bias", "running_mean", "running_var") if tracked else ("weight", "bias")
        for name, variable in zip(names, self.variables, strict=False):
            yield name, _read(self.path, variable)
        if tracked:
            yield "num_batches_tracked", torch.zeros((), dtype=torch.int64)


_NORMS: tuple[tuple[NormKind, tuple[str, ...]], ...] = (
    ("batch", ("gamma", "beta", "moving_mean", "moving_variance")),
    ("batch", ("0", "1", "2", "3")),
    ("batch", ("scale", "offset", "moving_mean", "moving_variance")),
    ("instance", ("scale", "offset")),
    ("instance", ("gamma", "beta")),
    ("instance", ("0", "1")),
)
"""The names of the variables of norms, in the order of PyTorch's weights."""
_KERNELS = (("kernel", "bias"), ("filter", "bias"), ("0", "1"))


def identify_convolution(layer: StoredLayer) -> StoredConvolution | None:
    """Return the 2D convolution that a layer is; None for another layer."""
    for kernel, bias in _KERNELS:
        if kernel not in layer.variables or not set(layer.variables) <= {kernel, bias}:
            continue
        found, added = layer.variables[kernel], layer.variables.get(bias)
        if len(found.shape) == 4 and min(found.shape) > 0 and (added is None or len(added.shape) == 1):
            return StoredConvolution(layer.path, found, added)
    return None


def identify_norm(layer: StoredLayer) -> StoredNorm | None:
    """Return the norm that a layer is; None for another layer."""
    for kind, names in _NORMS:
        if set(layer.variables) != set(names):
            continue
        variables = tuple(layer.variables[name] for name in names)
        shape = variables[0].shape
        if len(shape) == 1 and shape[0] > 0 and all(variable.shape == shape for variable in variables):
            return StoredNorm(layer.path, kind, variables)
    return None


def split_layers(layers: Sequence[StoredLayer]) -> tuple[list[StoredConvolution], list[StoredNorm]] | None:
    """Return the convolutions and the norms of a model in their order; None if it has layers of other kinds."""
    convolutions: list[StoredConvolution] = []
    norms: list[StoredNorm] = []
    for layer in layers:
        if not layer.variables or "seed_generator" in layer.path:  # the random state of dropout
            continue
        if (convolution := identify_convolution(layer)) is not None:
            convolutions.append(convolution)
        elif (norm := identify_norm(layer)) is not None:
            norms.append(norm)
        else:
            return None
    return convolutions, norms


def _read(path: str, variable: StoredVariable) -> Tensor:
    """Return the values of a variable as float32. Raises CheckpointError if they have another shape."""
    values = variable.read()
    if values.shape != variable.shape:
        raise CheckpointError(f"{path} has values of shape {values.shape}, not {variable.shape}")
    return torch.from_numpy(values.astype("float32"))
