from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery
from surgery import inside, op, path
from surgery.errors import SelectionError
from surgery.rewriting.selection import parse_selection, select


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.act(self.conv(x))], 1)[:, :2]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = Block()
        self.down2 = Block()
        self.head = nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down2(self.down1(x))
        x = F.leaky_relu(x + 1).relu_()
        rows = x.shape[2]
        return self.head(x) * rows


@pytest.fixture(scope="module")
def traced() -> fx.GraphModule:
    traced = surgery.trace(Net(), torch.zeros(1, 2, 4, 4))
    assert isinstance(traced, fx.GraphModule)
    return traced


def paths(traced: fx.GraphModule, selection: surgery.Selection | str) -> list[str]:
    return [operation.path for operation in select(traced, selection)]


def test_a_path_pattern_reaches_any_depth(traced: fx.GraphModule) -> None:
    assert paths(traced, path("down1*")) == ["down1.conv", "down1.act", "down1.cat", "down1.getitem"]


@pytest.mark.parametrize("kind", ["leakyrelu", "LeakyReLU", "leaky_relu", "LEAKY*"])
def test_a_kind_is_the_same_for_modules_and_functions_in_any_case(traced: fx.GraphModule, kind: str) -> None:
    assert paths(traced, op(kind)) == ["down1.act", "down2.act", "leaky_relu"]


def test_an_in_place_method_has_the_kind_of_the_method_without_underscore(traced: fx.GraphModule) -> None:
    assert paths(traced, op("relu")) == ["relu"]


def test_inside_selects_all_operations_of_a_module(traced: fx.GraphModule) -> None:
    assert paths(traced, inside("down2") & op("conv2d")) == ["down2.conv"]


def test_selections_combine_and_bind_as_in_python(traced: fx.GraphModule) -> None:
    combined = path("down1*") & op("conv2d") | ~inside("down*") & op("conv2d")
    assert paths(traced, combined) == ["down1.conv", "head"]
    assert paths(traced, "down1* & op:conv2d | ~inside:down* & op:conv2d") == ["down1.conv", "head"]
    assert paths(traced, "op:conv2d & (down1* | head)") == ["down1.conv", "head"]


def test_the_text_of_a_selection_reads_back_to_the_same(traced: fx.GraphModule) -> None:
    combined = ~(path("down*") & ~op("cat")) | inside("head")
    assert paths(traced, parse_selection(str(combined))) == paths(traced, combined)


def test_an_operation_that_computes_no_tensor_is_never_selected(traced: fx.GraphModule) -> None:
    assert any(operation.kind == "getattr" for operation in surgery.operations(traced))
    assert not any("getattr" in chosen for chosen in paths(traced, "*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dwon1*", "'dwon1*' matches none of 15 operations; did you mean 'down1*'?"),
        ("op:conv3d", "'op:conv3d' matches none of 15 operations; did you mean 'op:conv2d'?"),
        ("inside:donw2", "'inside:donw2' matches none of 15 operations; did you mean 'inside:down2'?"),
        ("zzz", "'zzz' matches none of 15 operations; `surgery inspect` lists them"),
    ],
)
def test_the_error_of_a_selection_without_matches_has_a_suggestion(
    traced: fx.GraphModule, text: str, message: str
) -> None:
    with pytest.raises(surgery.SurgeryError) as caught:
        select(traced, text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["", "a &", "(a", "a b", "& a", "a )", "kind:conv", "op:"])
def test_a_syntax_error_in_a_selection_is_a_selection_error(text: str) -> None:
    with pytest.raises(surgery.SurgeryError, match="selection"):
        parse_selection(text)


def test_an_argument_of_the_wrong_type_is_an_error_of_one_line() -> None:
    from surgery.errors import SurgeryError

    model = torch.nn.Sequential(torch.nn.ReLU())
    traced = surgery.trace(model)
    for wrong in (
        lambda: surgery.operations(model),  # type: ignore[arg-type]
        lambda: surgery.select(model, "*"),  # type: ignore[arg-type]
        lambda: surgery.select(traced, 5),  # type: ignore[arg-type]
        lambda: surgery.select(traced, "&".join(["*"] * 300)),
        lambda: surgery.op(object()),  # type: ignore[arg-type]
        lambda: surgery.insert(traced, "relu"),  # type: ignore[arg-type]
        lambda: surgery.as_outputs(model),  # type: ignore[arg-type]
        lambda: surgery.certify(model, model, torch.zeros(1)),  # type: ignore[arg-type]
        lambda: surgery.record(object()),  # type: ignore[arg-type]
        lambda: surgery.draw(torch.empty(1, 1, 2, 2, device="meta")),
        lambda: surgery.draw([1]),  # type: ignore[arg-type]
    ):
        with pytest.raises(SurgeryError) as caught:
            wrong()
        assert str(caught.value).isprintable()


class Sized(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), -1)


def test_a_selection_of_sizes_alone_says_that_they_are_no_tensors() -> None:
    traced = surgery.trace(Sized(), torch.zeros(1, 2, 3))
    with pytest.raises(SelectionError, match=r"^'op:size' matches size, which computes no tensor$"):
        select(traced, op("size"))
