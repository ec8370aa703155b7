from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery
from surgery import op, path
from surgery.errors import ModelError, SelectionError, TraceError
from surgery.graph import input_names
from surgery.rewriting.parts import find_crossing
from surgery.rewriting.places import Place
from tests.nets import Branching, Containers, Counting, InPlace, Reused, TwoWays
from tests.tracing.test_symbolic import flat


class Skips(nn.Module):
    """A small U-Net: what goes down is written to in place, and crosses to the other side."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.act = nn.LeakyReLU(0.2, inplace=True)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 3, 2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        skip = self.down(image)
        h = self.middle(self.act(skip))
        h = self.up(torch.cat([skip, self.act(h)], 1))
        return h[:, :, : image.shape[2], : image.shape[3]]


@pytest.fixture(name="image")
def make_image() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def traced_skips(image: Tensor) -> Any:
    torch.manual_seed(0)
    return surgery.trace(Skips().eval(), image)


def paths(model: nn.Module) -> list[str]:
    return [operation.path for operation in surgery.operations(model)]


def test_the_inputs_of_a_tail_are_the_chosen_value_and_then_what_else_crosses(image: Tensor) -> None:
    traced = traced_skips(image)
    assert input_names(surgery.cut(traced, after="middle")) == ("middle", "image", "act")
    assert input_names(surgery.cut(traced, after="cat")) == ("cat", "image")
    assert input_names(surgery.cut(traced, after="up")) == ("up", "image")


def test_operations_of_a_part_keep_their_paths_kinds_and_shapes_and_are_counted_from_1(image: Tensor) -> None:
    traced = traced_skips(image)
    tail = surgery.cut(traced, after="middle")
    known = {operation.path: operation for operation in surgery.operations(traced)}
    assert paths(tail) == paths(traced)[-len(paths(tail)) :]
    assert "act@1" in paths(tail)
    for index, operation in enumerate(surgery.operations(tail), 1):
        original = known[operation.path]
        assert replace(operation, index=original.index) == original
        assert operation.index == index


def test_a_head_until_a_tail_returns_the_inputs_of_the_tail(image: Tensor) -> None:
    traced = traced_skips(image)
    tail = surgery.cut(traced, after=path("middle"))
    head = surgery.cut(traced, until=tail)
    values = head(image)
    assert values[1] is image
    assert torch.equal(tail(*values), traced(image))
    assert find_crossing(tail) == (Place("operation", "middle"), Place("input", "image"), Place("operation", "act"))


def test_a_model_cut_at_two_places_is_three_parts_that_compose(image: Tensor) -> None:
    traced = traced_skips(image)
    tail = surgery.cut(traced, after="cat")
    middle = surgery.cut(traced, after="act", until=tail)
    head = surgery.cut(traced, until=middle)
    assert paths(head) == ["down", "act"]
    assert torch.equal(tail(*middle(*head(image))), traced(image))


def test_a_part_until_operations_returns_one_value_or_several_as_they_were_computed(image: Tensor) -> None:
    traced = traced_skips(image)
    recorded = {a.path: a.values for a in surgery.record(surgery.insert(traced, surgery.operations(traced)), image)}
    assert torch.equal(surgery.cut(traced, until="down")(image), recorded["down"])
    values = surgery.cut(traced, until=op("conv2d"))(image)
    assert all(torch.equal(value, recorded[name]) for value, name in zip(values, ("down", "middle"), strict=True))
    assert not torch.equal(values[0], recorded["act"])


def test_a_part_does_not_write_to_its_inputs(image: Tensor) -> None:
    traced = traced_skips(image)
    tail = surgery.cut(traced, after="middle")
    values = surgery.cut(traced, until=tail)(image)
    before = [value.detach().clone() for value in values]
    assert torch.equal(tail(*values), tail(*values))
    assert all(map(torch.equal, values, before))


class Writing(nn.Module):
    """Writes to what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2)


def test_a_part_does_not_write_to_its_inputs_through_a_module_that_is_kept_whole() -> None:
    model = nn.Sequential(nn.Linear(2, 2), Writing(), nn.ReLU()).eval()
    traced = surgery.trace(model, leaves=[Writing])
    value = torch.ones(1, 2)
    tail = surgery.cut(traced, after="0")
    assert paths(tail) == ["1", "2"]
    assert tail(value).tolist() == [[2, 2]]
    assert value.tolist() == [[1, 1]]


def test_a_part_takes_activations_that_need_gradients(image: Tensor) -> None:
    traced = traced_skips(image)
    tail = surgery.cut(traced, after="middle", reference=image)
    value = surgery.cut(traced, until="middle")(image).detach().requires_grad_()
    tail(value).sum().backward()
    assert value.grad.count_nonzero() > 0


def test_with_a_reference_only_the_chosen_values_are_inputs(image: Tensor) -> None:
    traced = traced_skips(image)
    for reference in (image, (image,), {"image": image}):
        tail = surgery.cut(traced, after="middle", reference=reference)
        assert input_names(tail) == ("middle",)
        (middle,) = surgery.cut(traced, until=tail)(image)
        for _ in range(2):
            assert torch.equal(tail(middle), traced(image))
    assert not any(name.startswith("held") for name in tail.state_dict())
    assert tail.double()(middle.double()).dtype == torch.float64


def test_a_held_value_is_that_of_the_reference_and_not_of_the_input(image: Tensor) -> None:
    traced = traced_skips(image)
    tail = surgery.cut(traced, after="middle", reference=torch.zeros_like(image))
    whole = surgery.cut(traced, after="middle")
    of_zero = surgery.cut(traced, until=whole)(torch.zeros_like(image))
    (middle,) = surgery.cut(traced, until=tail)(image)
    assert torch.equal(tail(middle), whole(middle, *of_zero[1:]))
    assert not torch.equal(tail(middle), traced(image))


def test_a_reference_in_inference_mode_gives_values_that_take_gradients_later(image: Tensor) -> None:
    traced = traced_skips(image)
    with torch.inference_mode():
        tail = surgery.cut(traced, after="middle", reference=image)
    value = torch.ones(2, 4, 4, 4, requires_grad=True)
    tail(value).sum().backward()
    assert value.grad is not None


def test_values_of_the_reference_may_be_nests_of_tensors() -> None:
    traced = surgery.trace(Containers().eval())
    x = torch.randn(2, 6, 4)
    tail = surgery.cut(traced, after="split", reference=x)
    (parts,) = surgery.cut(traced, until=tail)(x)
    assert list(flat(tail(parts))) == list(flat(traced(x)))


def test_a_part_has_the_parameters_that_it_uses_under_their_names_and_shares_them(image: Tensor) -> None:
    traced = traced_skips(image)
    tail, head = surgery.cut(traced, after="middle"), surgery.cut(traced, until="middle")
    assert list(tail.state_dict()) == ["up.weight", "up.bias"]
    assert list(head.state_dict()) == ["down.weight", "down.bias", "middle.weight", "middle.bias"]
    assert tail.up.weight is traced.up.weight
    tail.half()
    assert traced.up.weight.dtype == torch.float32
    tail.load_state_dict(traced.state_dict(), strict=False)


def test_tied_parameters_of_a_part_stay_tied() -> None:
    tail = surgery.cut(surgery.trace(Reused()), after="shared")
    assert tail.shared.weight is tail.tied.weight
    assert len(list(tail.parameters())) == 3
    assert paths(tail) == ["shared@1", "tied"]


def test_buffers_of_a_part_are_its_own_unless_both_sides_use_one() -> None:
    model = Counting()
    x = torch.ones(2, 3)
    traced = surgery.trace(model)
    twice = copy.deepcopy(model)
    expected = [twice(x), twice(x)]
    tail = surgery.cut(traced, after="mean")
    head = surgery.cut(traced, until=tail)
    assert input_names(tail) == ("mean", "x", "calls", "average")
    assert list(dict(tail.named_buffers())) == ["scratch"]
    assert [tail(*head(x)).tolist() for _ in range(2)] == [value.tolist() for value in expected]
    assert model.calls.item() == traced.calls.item() == 0
    assert head.calls.item() == 2


def test_a_part_has_a_graph_for_each_mode() -> None:
    model = TwoWays().eval()
    tail = surgery.cut(surgery.trace(model), after="first")
    head = surgery.cut(surgery.trace(model), until="first")
    x = torch.randn(2, 3)
    assert torch.equal(tail(head(x)), model(x))
    torch.manual_seed(3)
    expected = list(flat(model.train()(x)))
    torch.manual_seed(3)
    assert list(flat(tail.train()(head.train()(x)))) == expected


def test_a_mode_in_which_other_values_cross_is_named() -> None:
    tail = surgery.cut(surgery.trace(TwoWays().eval()), after="relu")
    with pytest.raises(TraceError, match="no operation 'relu'"):
        tail.train()
    tail = surgery.cut(surgery.trace(TwoWays().train()), after="side")
    with pytest.raises(TraceError, match="no operation 'side'"):
        tail.eval()


def test_modules_that_the_model_keeps_in_a_mode_stay_so_in_a_part() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.BatchNorm2d(3)
            self.second = nn.BatchNorm2d(3)

        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self.first.eval()
            self.second.eval()
            return self

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x) + 1)

    tail = surgery.cut(surgery.trace(Frozen()), after="add").train()
    assert tail.training
    assert not tail.second.training


def test_a_part_survives_deepcopy_and_saving(image: Tensor) -> None:
    traced = traced_skips(image)
    tail = surgery.cut(traced, after="middle", reference=image)
    whole = surgery.cut(traced, after="middle")
    buffer = io.BytesIO()
    torch.save((tail, whole), buffer)
    buffer.seek(0)
    for restored, other in (torch.load(buffer, weights_only=False), copy.deepcopy((tail, whole))):
        assert paths(restored) == paths(tail)
        assert find_crossing(other) == find_crossing(whole)
        values = surgery.cut(traced, until=other)(image)
        assert torch.equal(restored(values[0]), traced(image))
        assert torch.equal(other(*values), traced(image))


def test_a_part_can_be_recorded_shown_and_cut_again(image: Tensor) -> None:
    traced = traced_skips(image)
    tail = surgery.cut(traced, after="middle")
    values = surgery.cut(traced, until=tail)(image)
    opened = surgery.insert(tail, surgery.select(tail, "up"))
    whole = surgery.record(surgery.insert(traced, surgery.select(traced, "up")), image)
    assert torch.equal(surgery.record(opened, *values)[0].values, whole[0].values)
    named = dict(zip(input_names(tail), values, strict=True))
    assert torch.equal(surgery.record(opened, **named)[0].values, whole[0].values)
    last = surgery.cut(tail, after="cat")
    assert torch.equal(last(*surgery.cut(tail, until=last)(*values)), traced(image))


def test_a_rewritten_model_is_cut_with_its_extractors(image: Tensor) -> None:
    traced = traced_skips(image)
    opened = surgery.insert(traced, surgery.select(traced, "middle | up"))
    tail = surgery.cut(opened, after="middle")
    head = surgery.cut(opened, until=tail)
    assert [activation.path for activation in surgery.record(head, image)] == ["middle"]
    assert [activation.path for activation in surgery.record(tail, *head(image))] == ["up"]


def test_a_part_is_exported_and_compiled(image: Tensor) -> None:
    traced = traced_skips(image)
    tail = surgery.cut(traced, after="middle")
    with torch.no_grad():
        values = surgery.cut(traced, until=tail)(image)
    program = torch.export.export(tail, values)
    assert torch.equal(program.module()(*values), tail(*values))
    compiled = torch.compile(tail, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*values), tail(*values))


def test_an_edited_model_is_cut_before_and_after_an_edit(image: Tensor) -> None:
    edited = surgery.edit(traced_skips(image), "middle", "zero:channels=0-1")
    expected = edited(image)
    for place, edits in (("middle", ["middle'"]), ("middle'", [])):
        tail = surgery.cut(edited, after=place)
        values = surgery.cut(edited, until=tail)(image)
        assert torch.equal(tail(*values), expected)
        assert [name for name in paths(tail) if name.endswith("'")] == edits
        assert bool(values[0][:, :2].count_nonzero()) == bool(edits)


def test_an_exported_model_is_cut(image: Tensor) -> None:
    torch.manual_seed(0)
    model = Skips().eval()
    exported: Any = torch.export.export(model, (image,)).module()
    for operation in surgery.select(exported, "~up & ~getitem*"):
        tail = surgery.cut(exported, after=operation)
        assert torch.equal(tail(*surgery.cut(exported, until=tail)(image)), model(image))


def test_any_graph_module_is_cut(image: Tensor) -> None:
    plain = fx.symbolic_trace(Reused())
    x = torch.randn(2, 4)
    tail = surgery.cut(plain, after="shared@1")
    assert torch.equal(tail(surgery.cut(plain, until="shared@1")(x)), plain(x))


def test_what_is_computed_between_the_ends_is_kept_though_nothing_uses_it() -> None:
    traced = surgery.trace(InPlace().eval())
    x = torch.randn(2, 3, 6, 6)
    tail = surgery.cut(traced, after="norm")
    assert paths(tail) == paths(traced)[2:]
    assert torch.equal(tail(surgery.cut(traced, until="norm")(x)), traced(x))


def test_a_block_without_gradients_goes_on_in_both_parts() -> None:
    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                h = (x * 2).exp()
            return h + x

    traced = surgery.trace(Block())
    x = torch.ones(2, requires_grad=True)
    tail = surgery.cut(traced, after="mul")
    head = surgery.cut(traced, until=tail)
    values = head(x)
    assert not values[0].requires_grad
    assert torch.is_grad_enabled()
    out = tail(values[0].clone().requires_grad_(), values[1])
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.tolist() == [1, 1]


def test_an_identity_is_called_as_the_chosen_operation_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Identity(), nn.ReLU())
    tail = surgery.cut(surgery.trace(model), after="1")
    assert input_names(tail) == ("_1",)


class Views(nn.Module):
    """A view and its base are written to."""

    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        rows = h.view(h.shape[0], -1)
        other = h + 1
        rows += 1
        return h * other


class Item(nn.Module):
    """Needs a number that is computed from values."""

    def forward(self, x: Tensor) -> Tensor:
        number = x.sum().item()
        return x.relu() * number


class Turned(nn.Module):
    """Changes the shape of a tensor after it was read."""

    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        rows = h.shape[0]
        h.unsqueeze_(0)
        return h.relu() * rows


def test_inputs_that_share_memory_which_is_written_to_are_an_error() -> None:
    traced = surgery.trace(Views())
    line = r"view and mul share memory, to which add@1 \(.*test_cuts.py:\d+\) writes, so they can't be two inputs"
    with pytest.raises(TraceError, match=line):
        surgery.cut(traced, after="view")


def test_a_view_of_another_input_is_computed_in_the_part_that_writes_to_it() -> None:
    traced, x = surgery.trace(Views()), torch.randn(2, 3)
    tail = surgery.cut(traced, after="add")
    assert input_names(tail) == ("add", "mul")
    assert paths(tail)[:2] == ["getattr", "getitem"]
    assert "view" in paths(tail)
    assert torch.equal(tail(*surgery.cut(traced, until=tail)(x)), traced(x))


def test_a_copy_that_may_have_been_a_view_crosses_if_its_base_was_written_to() -> None:
    class Reshaped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = (x * 2).t()
            rows = h.reshape(-1)
            h += 1
            other = x + 1
            rows += 1
            return h.reshape(-1) * rows + other.reshape(-1)

    traced, x = surgery.trace(Reshaped()), torch.randn(2, 3)
    with pytest.raises(TraceError, match="share memory"):
        surgery.cut(traced, after="add@1")
    assert torch.equal(surgery.cut(traced, until="mul@1")(x) + (x + 1).reshape(-1), traced(x))


def test_numbers_that_are_no_sizes_can_not_cross() -> None:
    x = torch.randn(3)
    traced = surgery.trace(Item(), x, front_end="symbolic", allow=())
    with pytest.raises(TraceError, match=r"the value of item \(.*test_cuts.py:\d+\) is no tensor"):
        surgery.cut(traced, after="relu")


def test_a_size_of_a_tensor_that_changes_its_shape_can_not_cross() -> None:
    traced = surgery.trace(Turned())
    with pytest.raises(TraceError, match="getattr_1 is a size of a tensor that later changes its shape"):
        surgery.cut(traced, after="relu")


def test_bad_ends_are_one_line_each(image: Tensor) -> None:
    traced = traced_skips(image)
    down, act, middle, *_ = surgery.operations(traced)
    elsewhere = surgery.operations(surgery.trace(Reused()))[0]
    lines: list[tuple[str, dict[str, Any]]] = [
        ("cut takes after=, until= or both", {}),
        ("'convv' matches none of", {"after": "convv"}),
        ("the model has no operation 'shared'", {"after": elsewhere}),
        ("at least one operation", {"after": []}),
        ("cut takes a list of operations", {"after": 3}),
        ("down is not computed after middle, where the part begins", {"after": middle, "until": down}),
        ("nothing after up needs the value of cat; leave it out", {"after": "cat | up"}),
        ("act overwrites the value of down before the cut", {"after": [down, act]}),
        ("there is none without it", {"until": "up", "reference": image}),
        ("or what surgery.cut returns for after=", {"until": traced}),
    ]
    for line, ends in lines:
        with pytest.raises(SelectionError, match=line) as caught:
            surgery.cut(traced, **ends)
        assert "\n" not in str(caught.value)


def test_a_value_that_nothing_needs_can_not_be_put_in() -> None:
    class Lost(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            F.relu(x)
            return x + 1

    with pytest.raises(SelectionError, match="nothing after it needs the value of relu"):
        surgery.cut(surgery.trace(Lost()), after="relu")


def test_a_tail_of_another_model_has_no_head(image: Tensor) -> None:
    tail = surgery.cut(surgery.trace(Reused()), after="shared")
    with pytest.raises(TraceError, match="the graph has no operation 'shared', which until= names"):
        surgery.cut(traced_skips(image), until=tail)


def test_a_reference_with_other_inputs_is_one_line(image: Tensor) -> None:
    traced = traced_skips(image)
    with pytest.raises(ModelError, match="the reference has 2 inputs; the model takes image"):
        surgery.cut(traced, after="middle", reference=(image, image))
    with pytest.raises(ModelError, match="the reference has inputs called x; the model takes image"):
        surgery.cut(traced, after="middle", reference={"x": image})
    with pytest.raises(ModelError, match=r"^the model does not take the reference: Given groups=1, "):
        surgery.cut(traced, after="middle", reference=image[:, :2])


def test_an_observed_model_says_why_it_can_not_be_cut(image: Tensor) -> None:
    observed = surgery.trace(Branching(), image)
    with pytest.raises(TraceError, match=r"Branching can't be cut, since it is observed and has no graph \(.*branch"):
        surgery.cut(observed, after="conv")
    with pytest.raises(TraceError, match="Conv2d is not a traced model"):
        surgery.cut(nn.Conv2d(1, 1, 1), after="conv")
