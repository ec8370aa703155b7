"""Laws of `cut`, on the model that ships inside and on random small models."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import surgery
from surgery.errors import SurgeryError
from surgery.graph import bitwise_equal, clone_inputs, copy_sharing_parameters, find_instances, named_tensors
from surgery.graph.traced_module import TracedModule
from tests.tracing.test_traps import KEPT
from tests.verification.test_laws import Line, made, programs, run, same, steady

if TYPE_CHECKING:
    from torch import Tensor, nn

    from surgery.types import Operation
    from tests.traps import Trap


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


class TwoParts:
    """Two parts that run one after the other, and have the buffers of both."""

    def __init__(self, head: nn.Module, tail: nn.Module) -> None:
        self._head, self._tail = head, tail

    def __call__(self, *inputs: Any) -> Any:
        return self._tail(*self._head(*inputs))

    def buffers(self) -> tuple[Tensor, ...]:
        return ()


def symbolic(program: tuple[Line, ...], training: bool, verified: bool) -> tuple[Any, Tensor]:
    model, x = made(program, training)
    return surgery.trace(model, x if verified else None), x


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("trap", KEPT, ids=lambda trap: trap.name)
def test_a_model_that_is_hard_to_trace_cut_anywhere_is_the_model(trap: Trap) -> None:
    torch.manual_seed(0)
    model, inputs = trap.make().eval(), trap.inputs()
    traced = surgery.trace(model, inputs)
    if not isinstance(traced, TracedModule):
        return
    torch.manual_seed(1)
    expected = list(find_instances(copy_sharing_parameters(traced)(*clone_inputs(inputs))))
    for operation in surgery.operations(traced):
        if parts := cut_in_two(traced, operation):
            torch.manual_seed(1)
            assert same(list(find_instances(parts(*clone_inputs(inputs)))), expected), operation.path


def cut_in_two(traced: Any, operation: Operation) -> TwoParts | None:
    """The two parts, or None where a value can't cross."""
    try:
        tail = surgery.cut(traced, after=operation)
        return TwoParts(surgery.cut(traced, until=tail), tail)
    except SurgeryError as error:
        if not any(words in str(error) for words in ("share memory", "needs the value of", "is no tensor")):
            raise
        return None


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
