"""Gradient ascent on images, each for one channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from surgery.errors import SurgeryError
from surgery.synthesis.image_parameters import ImageParameters, total_variation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surgery.stages import Limits
    from surgery.synthesis.settings import AscentSettings
    from surgery.synthesis.unit_values import UnitValues


class Ascended(NamedTuple):
    """The images for some channels, ``(N, C, H, W)``, and the mean of each channel before and after, ``(N,)``."""

    images: Tensor
    before: Tensor
    after: Tensor


class Ascent:
    """Changes images so that the means of channels rise. The image of a channel does not depend on the others."""

    def __init__(
        self,
        values: UnitValues,
        shape: tuple[int, int, int],
        limits: Limits,
        settings: AscentSettings,
        like: Tensor,
    ) -> None:
        """`shape` is that of an image, ``(C, H, W)``; the model takes inputs of the dtype and device of `like`."""
        self._values = values
        self._shape = shape
        self._limits = limits
        self._settings = settings
        self._like = like

    def find_batch_size(self, channels: Sequence[int], most: int) -> int:
        """Return how many images can run at once: `most` if the means of a batch are those of its entries, else one."""
        if min(most, len(channels)) < 2:
            return 1
        with torch.no_grad():
            images = self._inputs(self._start(channels[:2]))
            alone = self._values(images[:1])
            try:
                together = self._values(images)[:1]
            except (SurgeryError, RuntimeError):  # the model is made for a batch of one
                return 1
        return most if torch.allclose(together, alone, rtol=1e-3, atol=1e-3 * float(alone.abs().max())) else 1

    def run(self, channels: Sequence[int], on_step: Callable[[int], None]) -> Ascended:
        """Return the images for some channels at once. `on_step` is called with the number of each step, from 1."""
        settings = self._settings
        with torch.random.fork_rng(devices=[self._like.device] if self._like.is_cuda else []):
            torch.manual_seed(settings.seed)  # for a model that draws random numbers
            parameters = self._start(channels)
            before, unit = self._measure(parameters, channels)
            optimizer = torch.optim.Adam([parameters.numbers], lr=settings.rate)
            offsets = torch.Generator().manual_seed(settings.seed % 2**63)
            for step in range(1, settings.steps + 1):
                colors = parameters.colors()
                moved = _move(self._to_model(parameters.inputs(colors)), settings.jitter, offsets)
                score = _pick(self._values(moved), channels) / unit
                loss = settings.variation * total_variation(colors).sum() - score.sum()
                (parameters.numbers.grad,) = torch.autograd.grad(loss, [parameters.numbers])
                optimizer.step()
                on_step(step)
            after, _ = self._measure(parameters, channels)
        with torch.no_grad():
            return Ascended(self._inputs(parameters), before, after)

    def _start(self, channels: Sequence[int]) -> ImageParameters:
        settings = self._settings
        seeds = [(settings.seed * 1_000_003 + channel) % 2**63 for channel in channels]
        return ImageParameters(self._shape, seeds, self._limits, self._like.device, frequencies=settings.frequencies)

    def _inputs(self, parameters: ImageParameters) -> Tensor:
        return self._to_model(parameters.inputs(parameters.colors()))

    def _to_model(self, images: Tensor) -> Tensor:
        return images.to(self._like.dtype)

    def _measure(self, parameters: ImageParameters, channels: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the means of the channels, ``(N,)`` float32, and the standard deviation of each image's values."""
        with torch.no_grad():
            maps = self._values.maps(self._inputs(parameters)).float()
            deviations = maps.flatten(1).std(1, correction=0)
        return _pick(maps.mean((2, 3)), channels), deviations.clamp(min=1e-12)


def _move(images: Tensor, jitter: int, generator: torch.Generator) -> Tensor:
    """Return images moved by up to `jitter` pixels down and right; what leaves at one side enters at the other."""
    down, right = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
    return images.roll((down, right), (2, 3))


def _pick(means: Tensor, channels: Sequence[int]) -> Tensor:
    """Return the mean of each image's own channel, from ``(N, C)`` means."""
    return means.gather(1, torch.tensor(channels, device=means.device)[:, None])[:, 0]
