"""Laws of `cut`, on the model that ships inside and on random small models; `tests/tracing/test_traps.py` has more."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import surgery
from surgery.graph import bitwise_equal, named_tensors
from surgery.graph.traced_module import TracedModule
from tests.rewriting.two_parts import cut_in_two
from tests.verification.test_laws import Line, made, programs, run, same, steady

if TYPE_CHECKING:
    from torch import Tensor


@pytest.fixture(scope="module", name="shipped")
def trace_shipped() -> tuple[Any, Tensor]:
    model = surgery.load_model("facades").eval()
    image = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    return surgery.trace(model, image), image


def test_the_shipped_model_cut_after_any_operation_is_the_model(shipped: tuple[Any, Tensor]) -> None:
    traced, image = shipped
    with torch.no_grad():
        expected = traced(image)
        for operation in surgery.operations(traced):
            tail = surgery.cut(traced, after=operation)
            values = surgery.cut(traced, until=tail)(image)
            assert bitwise_equal(tail(*values), expected), operation.path


def test_the_shipped_model_is_itself_on_the_reference_of_a_cut(shipped: tuple[Any, Tensor]) -> None:
    traced, image = shipped
    with torch.no_grad():
        expected = traced(image)
        for operation in surgery.operations(traced)[::9]:
            tail = surgery.cut(traced, after=operation, reference=image)
            assert bitwise_equal(tail(surgery.cut(traced, until=operation)(image)), expected), operation.path


def test_a_head_of_the_shipped_model_returns_what_is_recorded(shipped: tuple[Any, Tensor]) -> None:
    traced, image = shipped
    opened = surgery.insert(traced, surgery.operations(traced))
    recorded = surgery.record(opened, image)
    values = surgery.cut(traced, until="*")(image)
    assert len(values) == len(recorded)
    for value, activation in zip(values, recorded, strict=True):
        assert bitwise_equal(value, activation.values), activation.path


def symbolic(program: tuple[Line, ...], training: bool, verified: bool) -> tuple[Any, Tensor]:
    model, x = made(program, training)
    return surgery.trace(model, x if verified else None), x


@steady
@given(programs, st.booleans(), st.booleans())
def test_a_random_model_cut_anywhere_is_the_model(program: tuple[Line, ...], training: bool, verified: bool) -> None:
    traced, x = symbolic(program, training, verified)
    if not isinstance(traced, TracedModule):
        return
    whole = copy.deepcopy(traced)
    expected = run(whole, x)[: -len(list(whole.buffers()))]
    for operation in surgery.operations(traced):
        parts = cut_in_two(traced, operation)
        assert parts is None or same(run(parts, x), expected), operation.path  # type: ignore[arg-type]


@steady
@given(programs, st.booleans())
def test_a_head_of_a_random_model_returns_what_is_recorded(program: tuple[Line, ...], training: bool) -> None:
    traced, x = symbolic(program, training, verified=True)
    if not isinstance(traced, TracedModule):
        return
    torch.manual_seed(1)
    opened = surgery.insert(traced, surgery.select(traced, "*"))
    recorded = surgery.record(opened, x.clone())
    head = surgery.cut(traced, until="*")
    torch.manual_seed(1)
    with torch.no_grad():
        values = [tensor for _, tensor in named_tensors(head(x.clone()))]
    assert same(values, [activation.values for activation in recorded])
