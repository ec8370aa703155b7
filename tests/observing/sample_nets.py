"""Small networks in the styles of code that only observing takes: two transformers, a detector, a diffusion U-Net."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, WORDS = 16, 2, 20


class Output(OrderedDict[str, Any]):
    """A dataclass that is a dict of those of its fields that are not None, as the outputs of text models are."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


@dataclass
class EncoderOutput(Output):
    last_hidden_state: Tensor
    pooled: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


@dataclass
class DecoderOutput(Output):
    logits: Tensor
    tokens: Tensor
    cache: Cache | None = None


class Cache:
    """The keys and values of each layer, to which each step appends its own."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if len(self.layers) <= layer:
            self.layers.append((key, value))
        else:
            before = self.layers[layer]
            self.layers[layer] = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        return self.layers[layer]

    def __len__(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0


class Attention(nn.Module):
    def __init__(self, width: int = WIDTH, layer: int = 0) -> None:
        super().__init__()
        self.layer = layer
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.drop = nn.Dropout(0.1)

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        context = x if context is None else context
        batch, length, width = x.shape
        parts = [(self.query, x), (self.key, context), (self.value, context)]
        query, key, value = (
            layer(each).view(batch, -1, HEADS, width // HEADS).transpose(1, 2) for layer, each in parts
        )
        if cache is not None:
            key, value = cache.update(key, value, self.layer)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // HEADS)
        if mask is not None:
            scores = scores + mask
        weights = self.drop(scores.softmax(-1))
        return self.out((weights @ value).transpose(1, 2).reshape(batch, length, width))


class Layer(nn.Module):
    def __init__(self, layer: int) -> None:
        super().__init__()
        self.attention = Attention(layer=layer)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        x = x + self.attention(self.norms[0](x), mask=mask, cache=cache)
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class Encoder(nn.Module):
    """Builds its mask from what it is given, and gives what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(8, WIDTH)
        self.layers = nn.ModuleList(Layer(number) for number in range(2))
        self.register_buffer("position_ids", torch.arange(8)[None], persistent=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        **unused: Any,
    ) -> Any:
        if input_ids is None:
            raise ValueError("give input_ids")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if attention_mask.dim() == 2:
            attention_mask = attention_mask[:, None, None, :]
        mask = (1.0 - attention_mask.to(self.words.weight.dtype)) * torch.finfo(self.words.weight.dtype).min
        if torch.all(mask == 0):
            mask = None  # type: ignore[assignment]
        x = self.words(input_ids) + self.places(self.position_ids[:, : input_ids.shape[1]])  # type: ignore[index]
        states = [x]
        for layer in self.layers:
            x = layer(x, mask=mask)
            states.append(x)
        hidden = tuple(states) if output_hidden_states else None
        return EncoderOutput(x, x[:, 0].tanh(), hidden) if return_dict else (x, hidden)


class Decoder(nn.Module):
    """Adds a token at each step, until it has given an end to each sequence, or five tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Layer(number) for number in range(2))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, input_ids: Tensor, *, use_cache: bool = True) -> DecoderOutput:
        cache = Cache() if use_cache else None
        tokens, step, ended = input_ids, input_ids, torch.zeros(len(input_ids), dtype=torch.bool)
        for _ in range(5):
            logits = self.step(step, cache)
            chosen = logits[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, chosen], 1)
            ended |= chosen[:, 0] == 0
            if ended.all().item():
                break
            step = tokens if cache is None else chosen
        return DecoderOutput(logits, tokens, cache)

    def step(self, ids: Tensor, cache: Cache | None) -> Tensor:
        past = 0 if cache is None else len(cache)
        mask = torch.full((ids.shape[1], past + ids.shape[1]), -torch.inf).triu(past + 1)
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x, mask=mask, cache=cache)
        return self.norm(x) @ self.words.weight.t()


class Detector(nn.Module):
    """Looks closer at each place that it has found in each image, and numbers them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.score = nn.Conv2d(8, 1, 1)
        self.head = nn.Linear(8 * 9, 5)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        found = []
        for image in images:
            maps = self.body((image - image.mean()).div_(image.std())[None])
            scores = self.score(maps).sigmoid()
            peaks = (scores == F.max_pool2d(scores, 3, 1, 1)) & (scores > scores.mean())
            results = [self.look(maps, row, column) for row, column in peaks[0, 0].nonzero().tolist()]
            found.append(self.collect(results))
        return found

    def look(self, maps: Tensor, row: int, column: int) -> Tensor:
        return self.head(F.pad(maps, (1, 1, 1, 1))[..., row : row + 3, column : column + 3].flatten(1))

    def collect(self, results: list[Tensor]) -> dict[str, Tensor]:
        if not results:
            return {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}
        both = torch.cat(results)
        order = both[:, 4].argsort(descending=True)
        kept: list[int] = []
        for number in order.tolist():
            if all((both[number, :4] - both[other, :4]).abs().sum() > 0.1 for other in kept):
                kept.append(number)
        return {"boxes": both[kept, :4], "scores": both[kept, 4].sigmoid()}


@dataclass
class Sample(Output):
    sample: Tensor


class Residual(nn.Module):
    def __init__(self, channels: int, given: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, given)
        self.conv = nn.Conv2d(given, channels, 3, padding=1)
        self.time = nn.Linear(WIDTH, channels)
        self.skip = nn.Conv2d(given, channels, 1) if given != channels else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv(F.silu(self.norm(x), inplace=True)) + self.time(F.silu(time))[:, :, None, None]
        return h.add_(x if self.skip is None else self.skip(x))


class DiffusionUNet(nn.Module):
    """Takes a noisy image, the step of the diffusion as a number or a tensor, and the states of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.down = nn.ModuleList([Residual(8, 8), Residual(16, 8)])
        self.middle = Attention(16)
        self.up = nn.ModuleList([Residual(8, 32), Residual(8, 16)])
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        upsample_size = any(side % 4 for side in sample.shape[-2:])
        if not torch.is_tensor(timestep):
            timestep = torch.tensor([timestep], dtype=torch.float32 if isinstance(timestep, float) else torch.int64)
        elif timestep.ndim == 0:
            timestep = timestep[None]
        time = self.embed(timestep.expand(sample.shape[0])).to(sample.dtype)
        x, skips = self.first(sample), []
        for block in self.down:
            x = block(x, time)
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        x = (tokens + self.middle(tokens, encoder_hidden_states)).transpose(1, 2).view(batch, channels, height, width)
        for block in self.up:
            skip = skips.pop()
            size = skip.shape[-2:] if upsample_size else None
            x = F.interpolate(x, size=size, scale_factor=None if upsample_size else 2.0)
            x = block(torch.cat([x, skip], 1), time)
        x = self.last(x)
        return Sample(x) if return_dict else (x,)

    def embed(self, steps: Tensor) -> Tensor:
        half = WIDTH // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half, device=steps.device) / half)
        angles = steps[:, None].float() * rates[None]
        return torch.cat([angles.sin(), angles.cos()], -1)
