"""The transforms that come with the project: they compute other maps from those of an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args

from surgery.errors import RenderError

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.stages import Transform

Scale: TypeAlias = Literal["log", "linear"]


@dataclass(frozen=True, slots=True)
class Abs:
    """The absolute values."""

    def __call__(self, maps: Tensor, /) -> Tensor:
        return maps.abs()


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over the channels: one map. It is NaN where one of the channels is."""

    def __call__(self, maps: Tensor, /) -> Tensor:
        return maps.mean(1, keepdim=True)


@dataclass(frozen=True, slots=True)
class TopK:
    """The `k` channels of greatest variance in each image, in order of their numbers.

    Values that are not finite are ignored. Among channels of equal variance, the first are kept.
    """

    k: int = 16

    def __post_init__(self) -> None:
        if self.k < 1:
            raise RenderError(f"k is at least 1, not {self.k}")

    def __call__(self, maps: Tensor, /) -> Tensor:
        import torch

        finite = maps.isfinite()
        count = finite.sum((2, 3), keepdim=True).clamp_(min=1)
        values = torch.where(finite, maps, 0.0).double()
        spread = torch.where(finite, values - values.sum((2, 3), keepdim=True) / count, 0.0)
        variance = (spread.square().sum((2, 3), keepdim=True) / count)[..., 0, 0]
        chosen = variance.argsort(dim=1, descending=True, stable=True)[:, : self.k].sort(1).values
        return maps.gather(1, chosen[..., None, None].expand(-1, -1, *maps.shape[2:]))


@dataclass(frozen=True, slots=True)
class FFT:
    """The magnitude of the Fourier transform of each channel, with frequency zero in the middle.

    The ``log`` scale is ``log(1 + magnitude)``. A checkerboard pattern appears as points at the edges. Values that are
    not finite count as the mean of the channel's finite values.
    """

    scale: Scale = "log"

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scale):
            raise RenderError(f"scale is log or linear, not {self.scale!r}")

    def __call__(self, maps: Tensor, /) -> Tensor:
        import torch

        finite = maps.isfinite()
        if not bool(finite.all()):
            count = finite.sum((2, 3), keepdim=True).clamp_(min=1)
            mean = torch.where(finite, maps / count, 0.0).sum((2, 3), keepdim=True)
            maps = torch.where(finite, maps, mean)
        magnitude: Tensor = torch.fft.fftshift(torch.fft.fft2(maps), dim=(2, 3)).abs()
        return magnitude.log1p() if self.scale == "log" else magnitude


@dataclass(frozen=True, slots=True)
class PCA:
    """The first three principal components of the channels, drawn as red, green and blue.

    They are computed over the positions of each image, so positions with similar channels have similar colors. The sign
    of a component makes its greatest loading positive. Missing components are zero if there are fewer than three. All
    three are NaN where a channel is not finite.
    """

    color: ClassVar[bool] = True

    def __call__(self, maps: Tensor, /) -> Tensor:
        import torch

        return torch.stack([_components(image) for image in maps])


def _components(image: Tensor) -> Tensor:
    """Return the first three principal components ``(3, H, W)`` of ``(C, H, W)``."""
    import torch

    positions = image.flatten(1).T.double()
    finite = positions.isfinite().all(1)
    used = positions[finite]
    result = image.new_full((3, positions.shape[0]), torch.nan, dtype=torch.float64)
    if len(used):
        used = used - used.mean(0)
        size = used.abs().max()
        used = used / size if size > 0 else used  # so that the squares of large values stay finite
        if used.shape[0] < used.shape[1]:
            values, vectors = torch.linalg.eigh(used @ used.T)
            loadings = used.T @ vectors[:, -3:].flip(1)
            loadings = loadings / loadings.norm(dim=0).clamp_min(1e-300)
        else:
            values, vectors = torch.linalg.eigh(used.T @ used)
            loadings = vectors[:, -3:].flip(1)
        # If the rank is below three, the last directions are rounding errors.
        strength = values[-3:].flip(0)
        loadings = loadings * (strength > strength[0] * 1e-12)
        sign = loadings.gather(0, loadings.abs().argmax(0, keepdim=True)).sign()
        components = used @ (loadings * sign) * size
        result[:, finite] = torch.nn.functional.pad(components.T, (0, 0, 0, 3 - components.shape[1]))
    maps: Tensor = result.unflatten(1, image.shape[1:]).to(image.dtype)
    return maps


TRANSFORMS: dict[str, Transform] = {"abs": Abs(), "mean": Mean(), "topk": TopK(), "fft": FFT(), "pca": PCA()}
