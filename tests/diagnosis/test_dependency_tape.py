"""Which elements can reach which: the walk back against changing each element and looking at what changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgery.diagnosis.dependency_tape import DependencyTape
from surgery.errors import TraceError

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (1, 4, 6, 6)


def weights(*shape: int) -> Tensor:
    """Positive numbers, so that nothing cancels."""
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5


def changes(function: Callable[[Tensor], Tensor]) -> Tensor:
    """Which elements of the input change which of the output, bool ``(inputs, outputs)``."""
    generator = torch.Generator().manual_seed(0)
    found: Tensor | None = None
    for _ in range(3):
        image = torch.randn(SHAPE, dtype=torch.float64, generator=generator)
        before = function(image.clone())
        rows = []
        for element in range(image.numel()):
            row = torch.zeros(before.numel(), dtype=torch.bool)
            for step in (1.5, -1.5, 40, -40):
                changed = image.clone()
                changed.view(-1)[element] += step
                row |= (function(changed) != before).flatten()
            rows.append(row)
        found = torch.stack(rows) if found is None else found | torch.stack(rows)
    assert found is not None
    return found


def walk(function: Callable[[Tensor], Tensor]) -> tuple[Tensor, set[str]]:
    """The same by the walk back, and the kernels that it has no rule for."""
    image = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tape = DependencyTape()
    with tape:
        tape.mark(image)
        output = function(image)
    columns, assumed = [], set()
    for element in range(output.numel()):
        elements = torch.zeros(output.numel(), dtype=torch.bool)
        elements[element] = True
        reached = tape.walk_back(output, elements.view(output.shape))
        (found,) = reached.values
        columns.append(torch.zeros(image.numel(), dtype=torch.bool) if found is None else found.flatten())
        assumed |= set(reached.assumed)
    return torch.stack(columns, 1), assumed


def in_place_on_a_view(x: Tensor) -> Tensor:
    y = F.conv2d(x, weights(4, 4, 2, 2))
    y[:, :2].mul_(y[:, 2:])
    y[..., 0] = 1.0
    return y


def overwritten(x: Tensor) -> Tensor:
    y = x.clone()
    first = y[:, :1].clone()
    y.zero_()
    y[:, 1:2] += first
    return y


def read_before_it_is_overwritten(x: Tensor) -> Tensor:
    total = x.sum(3, keepdim=True)
    x[:, :, :3].fill_(0.0)
    return x + total


def put(x: Tensor) -> Tensor:
    y = torch.zeros(4, 6, dtype=x.dtype)
    y[torch.tensor([1, 1, 3]), torch.tensor([0, 2, 5])] = x[0, :3, 0, 0]
    return y.index_add(0, torch.tensor([0, 1]), x[0, :2, 1])


def complex_views(x: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.reshape(-1, 2).contiguous())
    return torch.view_as_real(pairs * pairs.roll(1)) * x.reshape(-1, 2)


EXACT: dict[str, Any] = {
    "conv": lambda x: F.conv2d(x, weights(3, 4, 3, 3), stride=2, padding=1),
    "conv, dilated, in groups": lambda x: F.conv2d(x, weights(4, 2, 2, 3), padding=(0, 2), dilation=2, groups=2),
    "conv of rows": lambda x: F.conv1d(x[0].flatten(1), weights(2, 4, 5), stride=3, padding=2),
    "conv of a volume": lambda x: F.conv3d(x[None], weights(1, 1, 2, 3, 3), stride=(1, 2, 2)),
    "conv, reflected": lambda x: F.conv2d(F.pad(x, (2, 1, 0, 3), "reflect"), weights(1, 4, 2, 2)),
    "transposed conv": lambda x: F.conv_transpose2d(x, weights(4, 2, 4, 4), stride=2, padding=1),
    "transposed conv, dilated, in groups": lambda x: F.conv_transpose2d(
        x, weights(4, 1, 3, 3), stride=3, padding=2, output_padding=1, dilation=2, groups=2
    ),
    "modulated conv": lambda x: F.conv2d(x, weights(4, 4, 1, 1) * (1 + x.mean((2, 3))[..., None, None] ** 2)),
    "max pool": lambda x: F.max_pool2d(x, 3, stride=2, padding=1),
    "max pool, dilated": lambda x: F.max_pool2d(x, 2, stride=1, dilation=2),
    "max pool, ceiled": lambda x: F.max_pool2d(x, (3, 4), ceil_mode=True),
    "max pool of rows": lambda x: F.max_pool1d(x[0].flatten(1), 4, 3),
    "max pool of a volume": lambda x: F.max_pool3d(x, 2),
    "mean pool": lambda x: F.avg_pool2d(x, 4, stride=3, padding=1, ceil_mode=True),
    "adaptive mean pool": lambda x: F.adaptive_avg_pool2d(x, (4, 1)),
    "adaptive max pool": lambda x: F.adaptive_max_pool2d(x, (4, 5)),
    "nearest": lambda x: F.interpolate(x, scale_factor=1.5),
    "nearest-exact": lambda x: F.interpolate(x, 4, mode="nearest-exact"),
    "bilinear": lambda x: F.interpolate(x, 9, mode="bilinear"),
    "bicubic": lambda x: F.interpolate(x, 13, mode="bicubic"),
    "antialiased": lambda x: F.interpolate(x, 3, mode="bilinear", antialias=True),
    "area": lambda x: F.interpolate(x, 4, mode="area"),
    "constant padding": lambda x: F.pad(x, (1, -2, 0, 3), value=1.0),
    "replicated padding": lambda x: F.pad(x, (1, 2, 0, 3), "replicate"),
    "circular padding": lambda x: F.pad(x, (1, 2, 0, 3), "circular"),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 3),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "unfold and fold": lambda x: F.fold(F.unfold(x, 3, stride=2), 5, 3, stride=2),
    "overlapping windows": lambda x: x.unfold(2, 3, 2).prod(-1),
    "overlapping windows, written to": lambda x: x.unfold(2, 3, 2).clone().add_(x[:, :, :2, :, None]),
    "cat and flip": lambda x: torch.cat([x.flip(2), x[:, :1].repeat(1, 2, 1, 1)], 1).roll(1, 3),
    "gather": lambda x: x.gather(3, torch.tensor([[[[1, 1, 0]]]])),
    "index": lambda x: x[:, [0, 3, 3], :, [1, 2, 5]],
    "index select": lambda x: x.index_select(1, torch.tensor([2, 0])).tril(),
    "put": put,
    "scatter": lambda x: torch.zeros_like(x).scatter_add(3, torch.tensor([[[[5, 1, 1]]]]), x[:, :1, :1, :3]),
    "cumulated": lambda x: x.cumsum(2),
    "sums": lambda x: x.sum((1, 3)) + x.amax(1).std(-1),
    "all maxima": lambda x: x.max() * x[0, 0],
    "maxima along an axis": lambda x: x.max(2).values,
    "top two": lambda x: x.topk(2, 3).values,
    "softmax": lambda x: x.softmax(1),
    "product with itself": lambda x: x @ x.mT,
    "linear": lambda x: F.linear(x, weights(3, 6), weights(3)),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x.exp()),
    "layer norm": lambda x: F.layer_norm(x, (6,)),
    "rms norm": lambda x: F.rms_norm(x, (6, 6)),
    "group norm": lambda x: F.group_norm(x, 2),
    "instance norm": F.instance_norm,
    "batch norm": lambda x: F.batch_norm(x, weights(4), weights(4)),
    "batch norm in train mode": lambda x: F.batch_norm(x, None, None, training=True),
    "activations": lambda x: F.prelu(F.gelu(F.leaky_relu(F.softplus(x))), weights(4)) + F.hardswish(x).tanh(),
    "gated": lambda x: F.glu(x, 1),
    "masked": lambda x: x.masked_fill(x > 8, 0.0) * torch.where(x > 0, x, 2.0),
    "broadcast": lambda x: x[:, :1] * x[:, :, :1].transpose(2, 3).exp(),
    "normalized": lambda x: F.normalize(x, dim=1),
    "in place on a view": in_place_on_a_view,
    "overwritten": overwritten,
    "read before it is overwritten": read_before_it_is_overwritten,
    "expanded": lambda x: x[:, :, :1].expand(-1, -1, 4, -1).clone().relu_(),
    "complex views": complex_views,
    "dropout": lambda x: F.dropout(x, 0.0, training=True),
    "constants": lambda _: torch.ones(3, dtype=torch.float64),
}


@pytest.mark.parametrize("name", EXACT)
def test_an_element_is_reached_if_and_only_if_changing_it_changes_the_output(name: str) -> None:
    reached, assumed = walk(EXACT[name])
    assert not assumed
    changed = changes(EXACT[name])
    assert torch.equal(reached, changed), (
        f"{int((reached & ~changed).sum())} more, {int((changed & ~reached).sum())} less"
    )


CONSERVATIVE: dict[str, tuple[Any, set[str]]] = {
    "sampled at a grid": (
        lambda x: F.grid_sample(x, torch.full((1, 2, 2, 2), 0.3, dtype=torch.float64), align_corners=True),
        {"grid_sampler_2d"},
    ),
    "a spectrum": (lambda x: torch.fft.rfft2(x).abs(), {"_fft_r2c"}),
    "chosen by a mask": (lambda x: x[x < 100].reshape(x.shape), set()),
    "sorted out": (lambda x: x.take(x[0, 0, 0].argsort()), set()),
    "scattered in part": (
        lambda x: torch.zeros_like(x).scatter_add(3, torch.tensor([[[[5, 1, 1]]]]), x)[..., 1],
        {"scatter_add"},
    ),
}


@pytest.mark.parametrize("name", CONSERVATIVE)
def test_everything_is_read_where_numbers_decide_or_no_rule_is_known(name: str) -> None:
    function, kernels = CONSERVATIVE[name]
    reached, assumed = walk(function)
    assert assumed == kernels
    assert not (changes(function) & ~reached).any()
    assert reached.all()


def test_a_value_is_followed_as_it_was_when_it_was_marked() -> None:
    """The memory of a value that is overwritten later belongs to another value then."""
    image = torch.ones(4)
    tape = DependencyTape()
    with tape:
        doubled = image * 2
        tape.mark(doubled)
        output = doubled[:2] + 1
        doubled.copy_(output.repeat(2))
        tape.mark(doubled)
    reached = tape.walk_back(output, torch.tensor([True, False]))
    assert reached.values[1] is None
    assert reached.values[0] is not None
    assert reached.values[0].tolist() == [True, False, False, False]
    again = tape.walk_back(doubled, torch.tensor([False, False, True, False]))
    assert [None if found is None else found.tolist() for found in again.values] == [
        [True, False, False, False],
        [False, False, True, False],
    ]


def test_sparse_tensors_are_an_error_that_names_the_kernel() -> None:
    tape = DependencyTape()
    image = torch.eye(3)
    with tape:
        tape.mark(image)
        output = torch.sparse.mm(image.to_sparse(), image)
    with pytest.raises(TraceError, match=r"sparse tensors can't be followed: .*mm"):
        tape.walk_back(output, torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(TraceError, match=r"layout torch.sparse_coo can't be followed"):
        tape.mark(image.to_sparse())


def test_the_field_of_a_chain_of_convolutions_follows_the_known_recurrence() -> None:
    """Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019."""
    layers = [(5, 2, 1), (3, 1, 2), (4, 2, 1), (2, 3, 3), (3, 1, 1)]  # kernel, stride, dilation
    model = nn.Sequential(*(nn.Conv2d(1, 1, kernel, stride, dilation=dilation) for kernel, stride, dilation in layers))
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * step
        step *= stride
    image = torch.zeros(1, 1, field + 2 * step, field)
    tape = DependencyTape()
    with tape:
        tape.mark(image)
        output = model(image)
    assert output.shape == (1, 1, 3, 1)
    for row in range(3):
        elements = torch.zeros(output.shape, dtype=torch.bool)
        elements[0, 0, row] = True
        (reached,) = tape.walk_back(output, elements).values
        assert reached is not None
        rows = reached[0, 0].any(1).nonzero()
        assert (int(rows[0]), int(rows[-1])) == (row * step, row * step + field - 1)
