from __future__ import annotations

import copy
import io
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, fx, nn

import surgery
from surgery.errors import TraceError
from surgery.graph.traced_module import graphs_by_mode
from tests.nets import Branching, Constant, Containers, Counting, InPlace, Reused, TwoWays

if TYPE_CHECKING:
    from collections.abc import Iterator


def state(model: nn.Module) -> dict[str, Any]:
    """Return all state of a model that tracing might change."""
    return {
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "hooks": {name: len(module._forward_hooks) for name, module in model.named_modules()},
        "identities": [id(tensor) for tensor in (*model.parameters(), *model.buffers())],
        "versions": [tensor._version for tensor in (*model.parameters(), *model.buffers())],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    values, now = before.pop("values"), after.pop("values")
    assert list(values) == list(now)
    assert all(torch.equal(values[name], now[name]) for name in values)
    assert before == after


CASES: list[tuple[type[nn.Module], tuple[int, ...]]] = [
    (InPlace, (2, 3, 6, 6)),
    (Containers, (2, 6, 4)),
    (Reused, (2, 4)),
    (Counting, (4, 3)),
    (Constant, (2, 3)),
]


@pytest.mark.parametrize(("net", "shape"), CASES)
@pytest.mark.parametrize("training", [False, True])
def test_tracing_leaves_the_model_exactly_as_it_was(
    net: type[nn.Module], shape: tuple[int, ...], training: bool
) -> None:
    model = net().train(training)
    before = state(model)
    generator = torch.get_rng_state()
    surgery.trace(model, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert_same(before, state(model))
    assert torch.equal(generator, torch.get_rng_state())


def test_a_failed_tracing_leaves_the_model_exactly_as_it_was() -> None:
    model = Branching()
    before = state(model)
    with pytest.raises(TraceError):
        surgery.trace(model)
    assert_same(before, state(model))


@pytest.mark.parametrize(("net", "shape"), CASES)
@pytest.mark.parametrize("training", [False, True])
def test_a_traced_model_computes_what_the_model_computes(
    net: type[nn.Module], shape: tuple[int, ...], training: bool
) -> None:
    model = net().train(training)
    traced = surgery.trace(model)
    twin = copy.deepcopy(model)
    for seed in range(3):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        expected = twin(x.clone())
        torch.manual_seed(seed)
        result = traced(x.clone())
        assert list(flat(result)) == list(flat(expected))
        for name, value in twin.named_buffers():
            assert torch.equal(value, traced.get_buffer(name)), name


def flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Tensor):
        yield value.tolist()
    elif isinstance(value, dict):
        for item in value.values():
            yield from flat(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from flat(item)
    else:
        yield value


@pytest.mark.parametrize(("net", "shape"), CASES)
def test_the_state_dict_has_the_keys_of_the_original(net: type[nn.Module], shape: tuple[int, ...]) -> None:
    model = net()
    traced = surgery.trace(model, torch.zeros(shape))
    assert list(traced.state_dict()) == list(model.state_dict())
    traced.load_state_dict(model.state_dict(), strict=True)


def test_parameters_are_shared_and_buffers_are_not() -> None:
    model = InPlace()
    traced = surgery.trace(model)
    assert all(a is b for a, b in zip(traced.parameters(), model.parameters(), strict=True))
    assert not {id(buffer) for buffer in traced.buffers()} & {id(buffer) for buffer in model.buffers()}


def test_learning_shapes_leaves_the_traced_buffers_as_the_models() -> None:
    model = InPlace().train()
    traced = surgery.trace(model, torch.randn(2, 3, 4, 4))
    for one, other in zip(traced.buffers(), model.buffers(), strict=True):
        assert torch.equal(one, other)


def test_the_mode_of_a_traced_model_is_its_own() -> None:
    model = InPlace().eval()
    surgery.trace(model).train()
    assert not any(module.training for module in model.modules())


def test_a_model_that_takes_another_branch_in_train_mode_is_traced_in_both_modes() -> None:
    model = TwoWays().eval()
    x = torch.randn(2, 3)
    traced = surgery.trace(model, x)
    opened = surgery.insert(traced, surgery.select(traced, "first | dropout | op:relu"))
    buffer = io.BytesIO()
    torch.save(opened, buffer)
    buffer.seek(0)
    for one in (traced, opened, copy.deepcopy(opened), torch.load(buffer, weights_only=False)):
        for training in (True, False, True):
            torch.manual_seed(0)
            expected = model.train(training)(x)
            torch.manual_seed(0)
            assert list(flat(one.train(training)(x))) == list(flat(expected))
    assert [a.path for a in surgery.record(opened.eval(), x)] == ["first", "dropout", "relu"]
    assert [a.path for a in surgery.record(opened.train(), x)] == ["first", "dropout"]
    assert surgery.certify(model.eval(), opened, x).same


def test_a_model_that_does_the_same_in_both_modes_has_one_graph() -> None:
    for net in (InPlace, Constant, Containers):
        graphs = graphs_by_mode(surgery.trace(net()))
        assert graphs[True] is graphs[False]


def test_a_mode_in_which_a_model_can_not_be_traced_is_refused_when_it_is_asked_for() -> None:
    class Stubborn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and x.sum() > 0:
                return -x
            return x + 1

    traced = surgery.trace(Stubborn().eval())
    assert traced(torch.zeros(1)) == 1
    with pytest.raises(TraceError, match=r"there is no train mode: .*test_symbolic.py:\d+: a branch or loop"):
        traced.train()
    assert not traced.training


def test_an_augmented_assignment_to_a_view_writes_through_it() -> None:
    class Through(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = x * 1
            view = h[:, :1]
            view += 10
            return h

    x = torch.zeros(1, 2)
    assert surgery.trace(Through())(x).tolist() == [[10.0, 0.0]]


def test_an_augmented_assignment_to_a_number_does_not_change_its_earlier_name() -> None:
    class Sizes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            rows = x.size(0)
            more = rows
            more += 5
            return x * rows + more

    assert surgery.trace(Sizes())(torch.ones(2, 1)).tolist() == Sizes()(torch.ones(2, 1)).tolist() == [[9.0], [9.0]]


@pytest.mark.parametrize("kind", ["spectral", "weight", "parametrized", "hook", "pre-hook"])
def test_hooks_of_the_root_module_survive(kind: str) -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3))
            self.inner = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) @ self.weight

    model: nn.Module = Root().eval()
    if kind == "spectral":
        model = nn.utils.parametrizations.spectral_norm(model).eval()
    elif kind == "weight":
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(model)
    elif kind == "parametrized":
        nn.utils.parametrizations.weight_norm(model)
    elif kind == "hook":
        model.register_forward_hook(lambda _module, _inputs, output: output * 3)
    else:
        model.register_forward_pre_hook(lambda _module, inputs: (inputs[0] - 7,))
    x = torch.randn(2, 3)
    assert torch.equal(surgery.trace(model)(x), model(x))


def test_a_hook_is_copied_without_the_object_outside_the_model_that_it_belongs_to() -> None:
    class Logger:
        def __init__(self) -> None:
            self.calls = 0

        def __deepcopy__(self, memo: object) -> Logger:
            raise AssertionError("copied")

        def hook(self, *_: object) -> None:
            self.calls += 1

    logger = Logger()
    model = Reused()
    model.shared.register_forward_hook(logger.hook)
    surgery.trace(model)(torch.zeros(1, 4))
    assert logger.calls == 2


def test_wrappers_are_unwrapped() -> None:
    model = Reused()
    compiled = torch.compile(model)
    assert list(surgery.trace(nn.DataParallel(model)).state_dict()) == list(model.state_dict())
    assert list(surgery.trace(compiled).state_dict()) == list(model.state_dict())  # type: ignore[arg-type]


def test_torchscript_is_refused_in_plain_words() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is deprecated
        scripted = torch.jit.script(nn.Linear(2, 2))
    with pytest.raises(TraceError, match="TorchScript module can't be traced"):
        surgery.trace(scripted)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("net.pt", "not str; surgery.load_model opens a model by its name or file"),
        (Path("net.pt"), "surgery.load_model opens a model by its name or file"),
        (torch.relu, "only an nn.Module can be traced, not builtin_function_or_method$"),
    ],
)
def test_a_name_or_a_file_is_refused_with_the_function_that_loads_it(model: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        surgery.trace(model)


def test_operations_tell_path_kind_shape_and_the_users_line() -> None:
    traced = surgery.trace(InPlace(), torch.zeros(2, 3, 6, 6))
    found = surgery.operations(traced)
    conv, cat = found[0], found[-1]
    assert (conv.path, conv.kind, conv.shape, conv.dtype) == ("conv", "conv2d", (2, 4, 6, 6), "float32")
    assert (cat.path, cat.kind, cat.shape) == ("cat", "cat", (2, 8, 6, 6))
    assert cat.source is not None
    assert cat.source.startswith("tests/nets.py:")
    assert [operation.index for operation in found] == list(range(1, len(found) + 1))
    assert len({operation.path for operation in found}) == len({operation.name for operation in found}) == len(found)


def test_a_second_call_of_a_module_has_a_number_in_its_path() -> None:
    assert [operation.path for operation in surgery.operations(surgery.trace(Reused()))] == [
        "shared",
        "shared@1",
        "tied",
    ]


def test_a_value_of_several_tensors_lists_them() -> None:
    traced = surgery.trace(Containers(), torch.zeros(2, 6, 4))
    lstm = surgery.operations(traced)[0]
    assert lstm.tensors is not None
    assert [(spec.key, spec.shape) for spec in lstm.tensors] == [
        ("[0]", (2, 6, 5)),
        ("[1][0]", (1, 2, 5)),
        ("[1][1]", (1, 2, 5)),
    ]
    assert lstm.shape is None


def test_a_model_that_cannot_be_traced_names_line_reason_and_remedy() -> None:
    with pytest.raises(TraceError) as caught:
        surgery.trace(Branching())
    message = str(caught.value)
    assert "tests/nets.py:" in message
    assert "a branch or loop that depends on the values of a tensor" in message
    assert "leaves=['Gate']" in message
    assert "\n" not in message


@pytest.mark.parametrize("leaf", ["gate", "Gate", "ga*", Branching.Gate])
def test_a_leaf_is_kept_whole(leaf: Any) -> None:
    model = Branching()
    traced = surgery.trace(model, leaves=[leaf])
    assert [operation.path for operation in surgery.operations(traced)] == ["conv", "gate"]
    x = -torch.ones(1, 3, 2, 2)
    assert torch.equal(traced(x), model(x))


def test_a_module_that_says_so_is_one_operation() -> None:
    class Halved(nn.ReLU):
        is_operation = True

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / 2

    model = nn.Sequential(Halved(), nn.Sequential(Halved()))
    assert [(each.path, each.kind) for each in surgery.operations(surgery.trace(model))] == [
        ("0", "halved"),
        ("1.0", "halved"),
    ]


def test_a_leaf_that_names_no_module_is_an_error() -> None:
    with pytest.raises(TraceError, match="'nowhere' is neither the path nor the class"):
        surgery.trace(Reused(), leaves=["nowhere"])


def test_optional_inputs_keep_their_defaults_unless_the_example_gives_them() -> None:
    class Optional(nn.Module):
        def forward(self, x: Tensor, scale: Tensor | None = None, *rest: Tensor, twice: bool = False) -> Tensor:
            if scale is not None:
                x = x * scale
            for other in rest:
                x = x + other
            return x * 2 if twice else x

    x = torch.ones(2)
    assert surgery.trace(Optional())(x).tolist() == [1, 1]
    assert surgery.trace(Optional(), (x, x * 3))(x, x * 3).tolist() == [3, 3]
    assert surgery.trace(Optional(), (x, x, x, x))(x, x, x, x).tolist() == [3, 3]
    with pytest.raises(TraceError, match="forward takes 1: input"):
        surgery.trace(nn.Sequential(nn.Identity()), (x, x))


@fx.wrap
def shrink(window: list[int], sizes: dict[str, list[int]]) -> list[int]:
    """Writes to the lists that it receives, as torchvision's `swin3d` does."""
    window[0] = min(window[0], 2)
    sizes["first"].append(window[0])
    return sizes["first"]


def test_a_function_that_is_kept_whole_may_write_to_the_lists_it_is_given() -> None:
    class Window(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first, second = shrink([x.shape[0], 1], {"first": [7]})[:2], shrink([3], {"first": [9]})
            return x * first[0] + x * first[1] + second[1]

    x = torch.ones(3)
    traced = surgery.trace(Window(), x)
    for _ in range(2):
        assert traced(x).tolist() == [11, 11, 11]
        assert surgery.record(surgery.insert(traced, surgery.operations(traced)), x)[-1].values.tolist() == [11, 11, 11]


def test_an_example_that_does_not_fit_is_one_clear_line() -> None:
    with pytest.raises(TraceError, match=r"the example of shape \(1, 5, 4, 4\) does not run: "):
        surgery.trace(InPlace(), torch.zeros(1, 5, 4, 4))


def test_no_override_is_left_anywhere_after_tracing() -> None:
    code = """
import gc, types, warnings
import surgery
from tests.nets import InPlace
surgery.trace(InPlace())
gc.collect()
warnings.simplefilter("ignore")
functions = [found for found in gc.get_objects() if type(found) is types.FunctionType]
names = ("torch", "module", "autograd", "builtin")
homes = [f"surgery.tracing.{name}_overrides" for name in names]
homes += ["surgery.tracing.whole_functions", "surgery.eager.user_code"]
ours = [f.__qualname__ for f in functions if f.__module__ in homes]
print(len(ours) > 10, [name for name in ours if "<locals>" in name])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


@pytest.mark.parametrize("name", ['a"b', "a\\", "a\nb", "\0", "\udce9", '"] + [print("run") or 0'])
def test_a_module_whose_name_can_not_be_written_as_code_is_refused(name: str) -> None:
    model = nn.Sequential()
    model.add_module(name, nn.Conv2d(3, 3, 1))
    with pytest.raises(TraceError, match="rename it"):
        surgery.trace(model)
    model = nn.Sequential()
    model.add_module("None", nn.Conv2d(3, 3, 1))
    with pytest.raises(TraceError, match="a module is called None, a word of Python"):
        surgery.trace(model)
    model = nn.Sequential()
    model.add_module("é 語 'x'", nn.Conv2d(3, 3, 1))
    assert [operation.path for operation in surgery.operations(surgery.trace(model))] == ["é 語 'x'"]
