"""The laws of edits, on random small models full of views, writes in place, skips, reuse and state."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import surgery
from surgery.errors import EditError
from surgery.rewriting.activation_edit import ActivationEdit, edited_operation
from surgery.rewriting.edit_insertion import insert_edits
from surgery.rewriting.removal import remove_edits
from surgery.types import Operation
from tests.verification.test_laws import Line, made, makers, programs, run, same, steady, traced_by

brief = settings(steady, max_examples=20)


@dataclass(frozen=True)
class Cloned:
    """An edit that changes nothing, in new memory."""

    text: str = "cloned"

    def __call__(self, value: Tensor) -> Tensor:
        return value.clone()


@dataclass(frozen=True)
class Halved:
    text: str = "halved"

    def __call__(self, value: Tensor) -> Tensor:
        return value * 0.5 + 0.25 if value.is_floating_point() else value.clone()


def edited_at(traced: torch.nn.Module, at: int, change: object) -> torch.nn.Module | None:
    """The model with an edit of one of its operations; None if that can't be kept apart from other values."""
    known = surgery.operations(traced)
    try:
        return insert_edits(traced, [known[at % len(known)]], lambda _: change)  # type: ignore[arg-type, return-value]
    except EditError:
        return None


def run_edited(edited: torch.nn.Module | None, x: Tensor) -> list[Tensor] | None:
    try:
        return None if edited is None else run(edited, x)
    except EditError:  # an observed model shows only while it runs which values share memory
        return None


@makers
@brief
@given(programs, st.booleans(), st.integers(0, 99))
def test_an_edit_that_changes_nothing_changes_no_bit(
    maker: str, program: tuple[Line, ...], training: bool, at: int
) -> None:
    model, x = made(program, training)
    found = run_edited(edited_at(traced_by(maker, model, x), at, Cloned()), x)
    assert found is None or same(found, run(copy.deepcopy(model), x))


@brief
@given(programs, st.booleans(), st.integers(0, 99))
def test_an_edit_of_a_graph_and_of_an_observed_model_is_the_same(
    program: tuple[Line, ...], training: bool, at: int
) -> None:
    model, x = made(program, training)
    traced = {maker: traced_by(maker, model, x) for maker in ("symbolic", "observed")}
    paths = [operation.path for operation in surgery.operations(traced["observed"]) if operation.kind != "getitem"]
    path = paths[at % len(paths)]  # items of tuples have other numbers in a graph
    outputs = []
    for each in traced.values():
        operations = surgery.operations(each)
        place = next(n for n, operation in enumerate(operations) if operation.path == path)
        outputs.append(run_edited(edited_at(each, place, Halved()), x))
    assert None in outputs or same(*outputs)  # type: ignore[arg-type]


@makers
@brief
@given(programs, st.booleans(), st.integers(0, 99))
def test_a_model_whose_edits_are_removed_is_the_model(
    maker: str, program: tuple[Line, ...], training: bool, at: int
) -> None:
    model, x = made(program, training)
    traced = traced_by(maker, model, x)
    edited = edited_at(traced, at, Halved())
    if edited is None:
        return
    edited = surgery.insert(edited, surgery.operations(edited))
    restored = remove_edits(edited)
    assert same(run(restored, x), run(copy.deepcopy(model), x))
    assert surgery.operations(restored) == surgery.operations(traced)


@makers
@brief
@given(programs, st.booleans(), st.integers(0, 99))
def test_copies_and_files_of_an_edited_model_compute_the_same(
    maker: str, program: tuple[Line, ...], training: bool, at: int
) -> None:
    model, x = made(program, training)
    edited = edited_at(traced_by(maker, model, x), at, Halved())
    expected = run_edited(copy.deepcopy(edited), x)
    if edited is None or expected is None:
        return
    buffer = io.BytesIO()
    torch.save(edited, buffer)
    buffer.seek(0)
    for restored in (torch.load(buffer, weights_only=False), copy.deepcopy(edited)):
        assert surgery.operations(restored) == surgery.operations(edited)
        assert same(run(restored.train(training), x), expected)


@brief
@given(programs, st.booleans(), st.integers(0, 99))
def test_an_edit_that_changes_nothing_leaves_the_gradients(program: tuple[Line, ...], training: bool, at: int) -> None:
    model, x = made(program, training)
    traced = traced_by("symbolic", model, x)
    edited = edited_at(traced, at, Cloned())
    if edited is None:
        return
    gradients = []
    for each in (traced, edited):
        leaf = x.clone().requires_grad_()
        torch.manual_seed(1)
        try:
            total = sum(tensor.sum() for tensor in torch.utils._pytree.tree_leaves(copy.deepcopy(each)(leaf)))
            gradients.append(torch.autograd.grad(total, [leaf], allow_unused=True)[0])  # type: ignore[arg-type]
        except (RuntimeError, EditError) as error:  # some programs have no gradients, and some values are no tensors
            if isinstance(error, EditError):
                return
            gradients.append(str(error).splitlines()[0][:20])
    one, other = gradients
    assert (one == other) if isinstance(one, str) or one is None else torch.equal(one, other)


def test_an_edited_value_has_the_strides_of_the_value() -> None:
    """With others, a kernel may take another path, whose results differ in the last bits."""
    edit = ActivationEdit(edited_operation(Operation("part", "part", "chunk", 1)), Cloned())
    part = torch.randn(2, 3, 8).chunk(2, dim=-1)[1]
    edited = edit(part)
    assert torch.equal(edited, part)
    assert edited.stride() == part.stride() == (24, 8, 1)
    assert edited.data_ptr() != part.data_ptr()
    repeated = torch.randn(2, 1, 4).expand(2, 3, 4)  # whose elements have several places
    assert edit(repeated).is_contiguous()
