"""Certificates of models that take keyword arguments, nests of tensors, or inputs of which no case can be made."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.verification.test_certificate import cases


class Masked(nn.Module):
    """Takes tokens and a mask as text models do, and gives a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, ids: Tensor, *, scale: float = 1.0, mask: Tensor | None = None) -> Result:
        h = self.embedding(ids) * scale
        h = h if mask is None else h * mask[..., None]
        return Result(self.head(h).relu_(), {"last": h[:, -1]})


@dataclass
class Result:
    logits: Tensor
    more: dict[str, Tensor]


class Nested(nn.Module):
    """Takes a list of feature maps and a dict of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, maps: list[Tensor], more: dict[str, Tensor]) -> list[Tensor]:
        weights = more["weights"][:, None, None, None]
        return [self.conv(maps[0]).mul_(weights), self.conv(maps[1]).mul_(weights)]


TOKENS = {"mask": torch.tensor([[1.0, 1.0, 0.0]]), "ids": torch.tensor([[1, 2, 3]])}


@pytest.mark.parametrize("front_end", ["symbolic", "observed"])
def test_a_dict_holds_the_keyword_arguments(front_end: Any) -> None:
    model = Masked().eval()
    traced = surgery.trace(model, TOKENS, front_end=front_end)
    opened = surgery.insert(traced, surgery.operations(traced))
    certificate = surgery.certify(model, opened, TOKENS)
    assert certificate.same, certificate.difference
    each = ["example", "again", "batch 2"]
    assert cases(certificate) == [(mode, case) for mode in ("eval", "train") for case in each]
    gradients = [c for c in certificate.comparisons if c.what == "gradients" and c.same]
    assert [c.count for c in gradients] == [4, 4]  # of the mask, the embedding, and the head's weight and bias


def test_an_observed_model_is_compared_on_other_keyword_arguments_than_its_example_has() -> None:
    model = Masked().eval()
    traced = surgery.trace(model, TOKENS, front_end="observed")
    for inputs in ([TOKENS["ids"]], [{**TOKENS, "scale": 2.0}], [{"ids": TOKENS["ids"]}]):
        certificate = surgery.certify(model, traced, *inputs, modes=["eval"])
        assert certificate.same, certificate.difference


def test_a_graph_that_does_not_take_the_keyword_arguments_is_a_difference() -> None:
    model = Masked().eval()
    traced = surgery.trace(model, TOKENS)
    certificate = surgery.certify(model, traced, {"ids": TOKENS["ids"]}, modes=["eval"])
    assert "the original runs, the rewritten does not" in certificate.difference
    assert "mask" in certificate.difference


@pytest.mark.parametrize("front_end", ["symbolic", "observed"])
def test_tensors_in_nests_are_inputs_too(front_end: Any) -> None:
    model = Nested().eval()
    maps = [torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)]
    inputs = (maps, {"weights": torch.tensor([2.0])})
    traced = surgery.trace(model, inputs, front_end=front_end)
    certificate = surgery.certify(model, traced, *inputs)
    assert certificate.same, certificate.difference
    assert [case for mode, case in cases(certificate) if mode == "eval"] == ["example", "again", "batch 2", "4x8"]
    gradients = next(c for c in certificate.comparisons if c.what == "gradients")
    assert gradients.count == 5  # of two maps, the weights, and the weight and bias of the convolution
    assert all(each.grad is None and not each.requires_grad for each in maps)


def test_no_case_is_made_of_tensors_that_belong_to_no_batch() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor, table: Tensor) -> Tensor:
            return x[: len(table)] * table.sum()

    inputs = (torch.randn(3, 2), torch.randn(2))
    certificate = surgery.certify(Pair(), surgery.trace(Pair(), inputs), *inputs, modes=["eval"])
    assert certificate.same
    assert cases(certificate) == [("eval", "example"), ("eval", "again")]


class Varying(nn.Module):
    """Computes one value of its own, and one that differs each time."""

    ticks = itertools.count()

    def forward(self, x: Tensor) -> Tensor:
        own = x * 2
        y = own + next(self.ticks)
        if y.sum() > 1e9:
            return x
        return y + random.random()  # noqa: S311


VARIES = "the original itself gives another each time it runs"


def test_values_that_vary_between_runs_of_the_original_are_not_compared() -> None:
    x = torch.randn(2, 3)
    certificate = surgery.certify(Varying(), surgery.trace(Varying(), x, front_end="observed"), x, modes=["eval"])
    assert certificate.same
    assert {c.difference for c in certificate.comparisons if c.what in ("output", "values")} == {VARIES}


def test_a_wrong_value_is_found_beside_values_that_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery.observing.extraction_observer import ExtractionObserver

    before = ExtractionObserver.on_call

    def spoil(self: Any, call: Any) -> Any:
        before(self, call._replace(value=call.value + 1) if call.path == "mul" else call)
        return call.value

    x = torch.randn(2, 3)
    traced = surgery.trace(Varying(), x, front_end="observed")
    monkeypatch.setattr(ExtractionObserver, "on_call", spoil)
    certificate = surgery.certify(Varying(), traced, x, modes=["eval"], others=False)
    assert certificate.difference.startswith("values (eval, example): mul (")


def test_what_a_model_keeps_outside_is_the_same_before_each_run() -> None:
    counts = {"calls": 0}

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            counts["calls"] += 1
            return x * counts["calls"]

    x = torch.randn(2, 3)
    traced = surgery.trace(Counting(), x)
    assert traced.front_end == "observed"
    certificate = surgery.certify(Counting(), traced, x)
    assert not [c for c in certificate.comparisons if c.difference]
    assert counts == {"calls": 0}


class Uninitialized(nn.Module):
    """Reads memory before it writes to it, and gives back only what it wrote."""

    def forward(self, x: Tensor) -> Tensor:
        result = x.new_empty(x.shape[0], 2 * x.shape[1])
        whole = result[:, :]
        result[:, : x.shape[1]] = x
        result[:, x.shape[1] :] = x + 1 if x.sum() < 1e9 else x
        return result if whole.shape == result.shape else x


def test_what_a_model_reads_of_uninitialized_memory_is_no_difference() -> None:
    model, x = Uninitialized(), torch.ones(2, 3)
    noise = [torch.full((2, 6), float(number)) for number in range(1, 50)]  # memory that is used again
    del noise
    for front_end in ("observed", "auto"):
        traced = surgery.trace(model, x, front_end=front_end)  # type: ignore[arg-type]
        opened = surgery.insert(traced, surgery.operations(traced))
        certificate = surgery.certify(model, opened, x)
        assert certificate.same, certificate.difference
        assert not [c for c in certificate.comparisons if c.what == "values" and c.difference]
