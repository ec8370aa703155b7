from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import surgery
from surgery.errors import EditError
from surgery.graph.bitwise import bitwise_equal
from surgery.graph.nodes import input_names
from surgery.graph.tensors import named_tensors
from surgery.studies.value_copies import copy_values
from surgery.studies.variant_runs import EditPoint, PointRuns, VariantRunner, make_edit_point, repeat_inputs
from tests.verification.test_laws import Line, made, programs, steady

CPU = torch.device("cpu")


class Plus:
    """Adds a number to a value."""

    def __init__(self, number: float) -> None:
        self.number = number
        self.text = f"plus {number}"

    def __call__(self, value: Tensor) -> Tensor:
        return (value + self.number).to(value.dtype)


def tensors_of(value: Any) -> list[Tensor]:
    return [tensor.clone() for _, tensor in named_tensors(value)]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(bitwise_equal(a, b) for a, b in zip(one, other, strict=True))


def points_of(traced: nn.Module) -> list[EditPoint]:
    """A point for each operation that can be edited alone."""
    points = []
    for operation in surgery.operations(traced):
        if operation.tensors == ():
            continue
        try:
            points.append(make_edit_point(traced, [operation]))
        except EditError:
            continue
    return points


def variants_of(point: EditPoint, numbers: Sequence[float]) -> list[dict[str, Any]]:
    return [{operation.path: Plus(number) for operation in point.operations} for number in numbers]


def run_from_cut(
    runner: VariantRunner, values: dict[str, Tensor], points: Sequence[EditPoint], numbers: Sequence[float], width: int
) -> list[list[list[Tensor]]]:
    """The outputs of each batch of variants, for each point."""
    outputs: list[list[list[Tensor]]] = [[] for _ in points]
    entries = []
    for point, kept in zip(points, outputs, strict=True):

        def consume(_: range, output: Any, kept: list[list[Tensor]] = kept) -> None:
            kept.append(tensors_of(output))

        entries.append(PointRuns(point, variants_of(point, numbers), consume))
    runner.run_points(values, entries, width)
    return outputs


def run_whole(
    runner: VariantRunner, values: dict[str, Tensor], point: EditPoint, numbers: Sequence[float], width: int
) -> list[list[Tensor]]:
    """The same outputs, as the whole edited model computes them."""
    outputs = []
    for first in range(0, len(numbers), width):
        rows = variants_of(point, numbers[first : first + width])
        point.choose([*rows, *[None] * (width - len(rows))])
        outputs.append(tensors_of(runner.run(values, point.edited)))
    return outputs


def has_rows(runner: VariantRunner, values: dict[str, Tensor], point: EditPoint, width: int) -> bool:
    """Whether the value at a point has a row for each variant."""
    try:
        run_whole(runner, values, point, [1.0], width)
    except EditError:
        return False
    return True


@steady
@given(programs, st.booleans(), st.sampled_from([1, 2]))
def test_running_from_the_cut_equals_running_the_whole_edited_model_bit_for_bit(
    program: tuple[Line, ...], training: bool, width: int
) -> None:
    model, x = made(program, training)
    runner = VariantRunner(surgery.trace(model, x, front_end="symbolic"), CPU, seed=3)
    values = repeat_inputs({"x": x[:1]}, ["x"], width)
    numbers = [1.5, -2.0, 0.25]
    every = points_of(runner.traced)
    points = [point for point in every if has_rows(runner, values, point, width)]
    assert width > 1 or points == every
    assert points
    assert all(point.cut is not None for point in points)
    found = run_from_cut(runner, values, points, numbers, width)
    for point, outputs in zip(points, found, strict=True):
        expected = run_whole(runner, values, point, numbers, width)
        assert len(outputs) == len(expected) == -(-3 // width)
        assert all(same(one, other) for one, other in zip(outputs, expected, strict=True)), point.operations


@steady
@given(programs, st.booleans())
def test_variants_leave_buffers_inputs_and_random_generators_as_they_were(
    program: tuple[Line, ...], training: bool
) -> None:
    model, x = made(program, training)
    runner = VariantRunner(surgery.trace(model, x, front_end="symbolic"), CPU, seed=3)
    before = x.clone(), torch.get_rng_state(), tensors_of(runner.run({"x": x}))
    for point in points_of(runner.traced):
        run_from_cut(runner, {"x": x}, [point], [1.0, 2.0], 1)
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.equal(x, before[0])
    assert same(tensors_of(runner.run({"x": x})), before[2])


@pytest.mark.parametrize("path", ["down1.conv", "down4.act", "down8.conv", "up8.cat", "up3.cat", "up2.act", "up1.tanh"])
def test_the_shipped_model_runs_from_each_cut_as_the_whole_edited_model(path: str) -> None:
    model = surgery.load_model("facades").eval()
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    traced = surgery.trace(model, image)
    runner = VariantRunner(traced, CPU, seed=0)
    [operation] = surgery.select(traced, path)
    point = make_edit_point(traced, [operation])
    [name] = input_names(traced)
    values = repeat_inputs({name: image}, [name], 3)
    [[found]] = run_from_cut(runner, values, [point], [0.5, 0.0, -1.0], 3)
    [expected] = run_whole(runner, values, point, [0.5, 0.0, -1.0], 3)
    original = tensors_of(runner.run(values))
    assert same(found, expected)
    assert torch.equal(found[0][1], original[0][1])
    assert not torch.equal(found[0][0], original[0][0])


def test_edits_of_several_operations_at_once_run_from_the_first() -> None:
    model, x = made((Line("conv", 0, 0), Line("relu_", 2, 0), Line("cat", 2, 1), Line("mul_", 4, 3)), training=False)
    traced = surgery.trace(model, x, front_end="symbolic")
    runner = VariantRunner(traced, CPU, seed=0)
    point = make_edit_point(traced, surgery.select(traced, "conv | cat | op:relu"))
    assert len(point.rows) == 3
    [[found]] = run_from_cut(runner, {"x": x[:1]}, [point], [0.5], 1)
    assert same(found, *run_whole(runner, {"x": x[:1]}, point, [0.5], 1))


class Blocks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = torch.relu(x) @ x
            z = y + 1
        with torch.no_grad():
            z = z.float() * 2
        return z - x


def test_a_block_of_autocast_is_not_cut() -> None:
    x = torch.rand(1, 4, 4)
    traced = surgery.trace(Blocks(), x)
    runner = VariantRunner(traced, CPU, seed=0)
    cuts = {point.operations[0].kind: point.cut for point in points_of(traced)}
    assert {kind for kind, cut in cuts.items() if cut is None} == {"relu", "matmul", "add"}
    for point in points_of(traced):
        found = run_from_cut(runner, {"x": x}, [point], [1.0, 2.0], 1)[0]
        assert [float(output.sum()) for [output] in found] == [
            float(output.sum()) for [output] in run_whole(runner, {"x": x}, point, [1.0, 2.0], 1)
        ]


def test_an_observed_model_runs_as_a_whole() -> None:
    model, x = made((Line("conv", 0, 0), Line("relu_", 2, 0)), training=False)
    traced = surgery.trace(model, x[:1], front_end="observed")
    runner = VariantRunner(traced, CPU, seed=0)
    point = make_edit_point(traced, surgery.select(traced, "conv"))
    assert point.cut is None
    values = repeat_inputs({"x": x[:1]}, ["x"], 2)
    [[found]] = run_from_cut(runner, values, [point], [0.5, 2.0], 2)
    symbolic = VariantRunner(surgery.trace(model, x[:1], front_end="symbolic"), CPU, seed=0)
    other = make_edit_point(symbolic.traced, surgery.select(symbolic.traced, "conv"))
    assert same(found, run_from_cut(symbolic, values, [other], [0.5, 2.0], 2)[0][0])


def test_copies_share_memory_as_the_values_do() -> None:
    base = torch.arange(12.0).view(3, 4)
    kept = torch.zeros(2)
    values = {
        "base": base,
        "same": base,
        "view": base[1:, ::2],
        "list": [base.T, {"deep": base[0]}],
        "expanded": torch.ones(1).expand(3),
        "kept": kept,
        "text": "x",
    }
    copies = copy_values(values, {kept.untyped_storage()._cdata})
    assert copies["base"] is copies["same"]
    assert copies["kept"] is kept
    copies["base"].zero_()
    assert copies["view"].sum() == copies["list"][0].sum() == copies["list"][1]["deep"].sum() == 0
    assert base.sum() == 66
    assert copies["expanded"].stride() == (0,)
    assert copies["list"][0].stride() == base.T.stride()
