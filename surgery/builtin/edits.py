"""The edits that come with the project: what takes the place of an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args

from surgery.builtin.edit_places import PlacedEdit, check_number
from surgery.builtin.replacement import Replace
from surgery.errors import EditError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from surgery.stages import Edit

Over: TypeAlias = Literal["space", "batch", "reference"]

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Zero(PlacedEdit):
    """Zero: the operation says nothing."""

    def __call__(self, values: Tensor, /) -> Tensor:
        import torch

        return torch.zeros_like(values)


@dataclass(frozen=True, slots=True)
class Mean(PlacedEdit):
    """The mean of each channel, computed in float32 or float64. It is NaN if one of the values is."""

    over: Over = "space"
    """Of the positions of each image, of all positions of the batch, or of those of a reference set of images."""

    def __post_init__(self) -> None:
        PlacedEdit.__post_init__(self)
        if self.over not in get_args(Over):
            raise EditError(f"a mean is over {', '.join(get_args(Over))}, not {self.over!r}")

    @property
    def needs_reference(self) -> bool:
        """Whether only the edit that `of_reference` returns can be called."""
        return self.over == "reference"

    def of_reference(self, values: Tensor, /) -> PlacedEdit:
        """Return the edit for the values ``(N, C, H, W)`` of a reference set: their means, if the mean is over it."""
        if not self.needs_reference:
            return self
        means = values.detach().mean((0, 2, 3), dtype=_precise_dtype(values, "mean"))[:, None, None]
        return Replace(values=means, **self.place)

    def __call__(self, values: Tensor, /) -> Tensor:
        if self.needs_reference:
            raise EditError("mean:over=reference needs the images of a reference set; over=space needs none")
        axes = (2, 3) if self.over == "space" else (0, 2, 3)
        means = values.mean(axes, keepdim=True, dtype=_precise_dtype(values, "mean"))
        return means.to(values.dtype).expand(values.shape)


@dataclass(frozen=True, slots=True)
class Scale(PlacedEdit):
    """The values times a number: 2 doubles what the operation says, -1 says the opposite."""

    by: float = 2.0

    def __post_init__(self) -> None:
        PlacedEdit.__post_init__(self)
        check_number("by", self.by)

    def __call__(self, values: Tensor, /) -> Tensor:
        dtype = _precise_dtype(values, "scale")
        return (values.to(dtype) * self.by).to(values.dtype)


@dataclass(frozen=True, slots=True)
class Clamp(PlacedEdit):
    """The values between two bounds. NaN stays NaN."""

    low: float | None = -1.0
    """Lower values become this one; none for no lower bound."""
    high: float | None = 1.0
    """Higher values become this one; none for no upper bound."""

    def __post_init__(self) -> None:
        PlacedEdit.__post_init__(self)
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        if not bounds:
            raise EditError("clamp needs a bound: low, high or both")
        if not bounds[0] <= bounds[-1]:
            raise EditError(f"the bounds of clamp are low <= high, not {bounds[0]:g} and {bounds[-1]:g}")

    def __call__(self, values: Tensor, /) -> Tensor:
        dtype = _precise_dtype(values, "clamp")
        return values.to(dtype).clamp(self.low, self.high).to(values.dtype)


@dataclass(frozen=True, slots=True)
class Noise(PlacedEdit):
    """The values plus Gaussian noise: the same for every image, at every run and on every device."""

    std: float = 1.0
    """The standard deviation of the noise, in units of that of the image's values, over all channels."""
    seed: int = 0
    relative: bool = True
    """Whether `std` is in such units. If not, it is in those of the values themselves."""

    def __post_init__(self) -> None:
        PlacedEdit.__post_init__(self)
        check_number("std", self.std, least=0)
        _check_seed(self.seed)

    def __call__(self, values: Tensor, /) -> Tensor:
        from surgery.builtin.random_operators import draw_noise

        dtype = _precise_dtype(values, "noise")
        noise: Tensor = draw_noise(values.detach(), self.seed).to(dtype) * self.std
        precise = values.to(dtype)
        if self.relative:
            noise = noise * precise.detach().std((1, 2, 3), correction=0, keepdim=True)
        return (precise + noise).to(values.dtype)


@dataclass(frozen=True, slots=True)
class Shuffle(PlacedEdit):
    """The values at other positions: what they are stays, and where they are is lost.

    All images and channels are shuffled in the same way. In a region, they come from the whole map.
    """

    is_spatial: ClassVar[bool] = True
    seed: int = 0

    def __post_init__(self) -> None:
        PlacedEdit.__post_init__(self)
        _check_seed(self.seed)

    def __call__(self, values: Tensor, /) -> Tensor:
        from surgery.builtin.random_operators import draw_order

        order = draw_order(values.detach(), self.seed)
        return values.flatten(2).index_select(2, order).reshape(values.shape)


@dataclass(frozen=True, slots=True)
class Blur(PlacedEdit):
    """The values blurred by a Gaussian: coarse structure stays, and detail is lost.

    At the edges of a map, the weights of the positions inside it are raised to the sum 1. A value that is not finite
    spreads over its whole map.
    """

    is_spatial: ClassVar[bool] = True
    sigma: float = 2.0
    """The standard deviation of the Gaussian in pixels of the map, above 0."""

    def __post_init__(self) -> None:
        PlacedEdit.__post_init__(self)
        check_number("sigma", self.sigma, least=1e-3)

    def __call__(self, values: Tensor, /) -> Tensor:
        dtype = _precise_dtype(values, "blur")
        height, width = values.shape[2:]
        rows, columns = (_blur_matrix(size, self.sigma, values.device, dtype) for size in (height, width))
        blurred: Tensor = rows @ values.to(dtype) @ columns.T
        return blurred.to(values.dtype)


def _blur_matrix(size: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the weights ``(size, size)`` by which each position, a row, takes from all positions."""
    import torch

    positions = torch.arange(size, device=device, dtype=dtype)
    weights: Tensor = (((positions[:, None] - positions) / sigma).square() * -0.5).exp()
    return weights / weights.sum(1, keepdim=True)


def _precise_dtype(values: Tensor, name: str) -> torch.dtype:
    """Return the dtype to compute in: float32, or float64 for values of it. Raises EditError if they are no floats."""
    import torch

    if not values.is_floating_point():
        raise EditError(f"{name} needs values of floats, not of {values.dtype}")
    return torch.promote_types(values.dtype, torch.float32)


def _check_seed(seed: int) -> None:
    if not (isinstance(seed, int) and 0 <= seed <= MAX_SEED):
        raise EditError(f"a seed is a whole number from 0 to {MAX_SEED}, not {seed!r:.60}")


EDITS: dict[str, Edit] = {
    "zero": Zero(),
    "mean": Mean(),
    "scale": Scale(),
    "clamp": Clamp(),
    "noise": Noise(),
    "shuffle": Shuffle(),
    "blur": Blur(),
    "replace": Replace(),
}
