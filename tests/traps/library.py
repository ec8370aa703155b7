"""Modules of torch itself that behave in unexpected ways."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.traps import trap


def rows() -> tuple[Tensor]:
    return (torch.randn(2, 5, 8),)


@trap(rows)
class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, weights = self.attention(x, x, x)
        return value + self.attention(x, x, x, need_weights=False)[0], weights


@trap(rows)
def encoder_layer() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))


@trap(rows)
def encoder() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2))


@trap(lambda: (torch.randn(2, 5, 8), torch.randn(2, 4, 8)))
class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(x, y)


@trap(rows)
class Recurrences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 4, 2, batch_first=True, dropout=0.2, bidirectional=True)
        self.gru = nn.GRU(8, 4, batch_first=True)
        self.cell = nn.LSTMCell(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h, (last, _) = self.lstm(x)
        g, _ = self.gru(h)
        state = None
        for step in range(2):
            state = self.cell(g[:, step], state)
        return g + last.mean() + state[0][:, None]  # type: ignore[index]


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)  # here
        h, _ = self.gru(packed)
        return pad_packed_sequence(h, batch_first=True)[0]


trap(rows, refused="a branch or loop")(Packed)


@trap(picklable=False)
def scripted_part() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 1), torch.jit.script(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1))))


@trap(picklable=False)
def traced_part() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 1), torch.jit.trace(nn.ReLU(), torch.zeros(1, 3, 8, 8)))


def doubled_or_tripled(x: Tensor) -> Tensor:
    if x.sum() > 0:
        return x * 2
    return x * 3


class ScriptedFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.function = torch.jit.script(doubled_or_tripled)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


trap(refused="ScriptFunction cannot be pickled")(ScriptedFunction)


@trap()
def graph_part() -> nn.Module:
    """A submodule that was traced before."""
    return nn.Sequential(nn.Conv2d(3, 3, 1), torch.fx.symbolic_trace(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1))))


@trap(refused="a dynamo-optimized function")
def compiled_part() -> nn.Module:
    torch.compiler.reset()  # the compiler gives up on a function that other models had it compile too often
    return nn.Sequential(nn.Conv2d(3, 3, 1), torch.compile(nn.Conv2d(3, 3, 1), backend="eager"))


@trap()
class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.Sequential(
            nn.BatchNorm2d(3, momentum=None),
            nn.BatchNorm2d(3, track_running_stats=False),
            nn.InstanceNorm2d(3, track_running_stats=True),
            nn.GroupNorm(1, 3),
            nn.LocalResponseNorm(2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(self.norms(x), (8,)) + F.batch_norm(x, None, None, training=True)


@trap()
class FunctionalNorm(nn.Module):
    """Updates running statistics through the function, not the module."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, training=self.training, momentum=0.3)


@trap()
class Pools(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        h, places = self.pool(x)
        return self.unpool(h, places, output_size=x.size()) + F.adaptive_avg_pool2d(x, 1)


@trap()
class Sampling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        theta = torch.eye(2, 3).repeat(x.shape[0], 1, 1)
        grid = F.affine_grid(theta, (2, 3, 8, 8), align_corners=False)
        h = F.grid_sample(x, grid, align_corners=False)
        return F.interpolate(h, size=x.shape[2:], mode="bilinear") + F.pad(x, (1, 1))[..., 1:-1]


@trap()
class Einsum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        grids = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
        h = torch.einsum("bchw,bdhw->bcd", x, x)
        return h.sum((1, 2))[:, None, None] + grids[0] + torch.stack(grids).sum(0)


@trap()
class MixedModes(nn.Module):
    """Keeps a norm in eval mode in both modes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def train(self, mode: bool = True) -> MixedModes:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


@trap()
def frozen_part() -> nn.Module:
    """One submodule was put into eval mode."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout())
    model[0].requires_grad_(False)
    model[1].eval()
    return model


@trap()
def without_grad() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)).requires_grad_(False)


@trap()
def nothing() -> nn.Module:
    return nn.Sequential()


@trap()
def identity() -> nn.Module:
    return nn.Sequential(nn.Identity(), nn.Dropout(0.0), nn.Flatten(0), nn.Unflatten(0, (-1, 2)))
