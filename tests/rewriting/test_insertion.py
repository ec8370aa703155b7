from __future__ import annotations

import copy
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn

import surgery
from surgery.errors import SelectionError
from surgery.rewriting.extractor import ActivationExtractor, find_extractors, listening
from surgery.rewriting.insertion import stop_after_last_extractor
from tests.nets import Constant, Containers, Counting, InPlace, Oracle, Reused, eager_values
from tests.tracing.test_symbolic import CASES, flat


def everywhere(model: nn.Module) -> tuple[fx.GraphModule, fx.GraphModule]:
    traced = surgery.trace(model)
    assert isinstance(traced, fx.GraphModule)
    return traced, surgery.insert(traced, surgery.operations(traced))


@pytest.mark.parametrize(("net", "shape"), CASES)
@pytest.mark.parametrize("training", [False, True])
def test_inserting_everywhere_changes_no_bit(net: type[nn.Module], shape: tuple[int, ...], training: bool) -> None:
    model = net().train(training)
    _, opened = everywhere(model)
    original = copy.deepcopy(model)
    for seed in range(2):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        results = []
        for candidate in (original, opened):
            torch.manual_seed(seed)
            with listening(opened, lambda operation, value: None):
                results.append((list(flat(candidate(x.clone()))), torch.get_rng_state().tolist()))
        assert results[0] == results[1]
        for name, value in original.named_buffers():
            assert torch.equal(value, opened.get_buffer(name)), name


@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_those_of_the_original(training: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)).train(training)
    _, opened = everywhere(model)
    gradients = []
    for candidate in (copy.deepcopy(model), opened):
        x = torch.ones(2, 3, 5, 5).requires_grad_()
        torch.manual_seed(1)
        candidate(x).square().sum().backward()
        gradients.append([x.grad, *(parameter.grad for parameter in candidate.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))  # type: ignore[arg-type]


def test_each_extractor_stands_between_its_operation_and_all_its_users() -> None:
    traced, opened = everywhere(InPlace())
    for node in opened.graph.nodes:
        if node.op == "call_module" and isinstance(opened.get_submodule(node.target), ActivationExtractor):
            assert list(node.args[0].users) == [node]
    assert len(find_extractors(opened)) == len(surgery.operations(traced)) == len(surgery.operations(opened))


def test_the_original_graph_is_untouched() -> None:
    traced = surgery.trace(InPlace())
    before = str(traced.graph)
    surgery.insert(traced, surgery.operations(traced))
    assert str(traced.graph) == before
    assert not find_extractors(traced)


def test_a_rewritten_model_is_an_ordinary_module() -> None:
    model = InPlace()
    _, opened = everywhere(model)
    assert list(opened.state_dict()) == list(model.state_dict())
    opened.load_state_dict(model.state_dict(), strict=True)
    opened.train()
    assert opened.norm.training
    opened.eval()
    assert not opened.norm.training
    x = torch.randn(1, 3, 4, 4)
    assert opened.double()(x.double()).dtype == torch.float64


def test_moving_a_rewritten_model_leaves_the_original_where_it_is() -> None:
    model = InPlace()
    _, opened = everywhere(model)
    opened.half()
    assert {parameter.dtype for parameter in opened.parameters()} == {torch.float16}
    opened.to("meta")
    assert {parameter.device.type for parameter in opened.parameters()} == {"meta"}
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"cpu"}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_parameters_that_are_tied_stay_so_when_a_rewritten_model_is_moved() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model(torch.ones(1, 3)).sum().backward()
    gradient = model[0].weight.grad
    traced = surgery.trace(model)
    traced.double()
    assert traced.get_submodule("1").weight is traced.get_submodule("0").weight
    assert traced.get_submodule("0").weight.grad.dtype == torch.float64
    assert model[0].weight.grad is gradient
    assert gradient.dtype == torch.float32


@pytest.mark.parametrize(("net", "shape"), CASES)
def test_a_rewritten_model_survives_deepcopy_and_saving(net: type[nn.Module], shape: tuple[int, ...]) -> None:
    model = net().eval()
    _, opened = everywhere(model)
    buffer = io.BytesIO()
    torch.save(opened, buffer)
    buffer.seek(0)
    for restored in (torch.load(buffer, weights_only=False), copy.deepcopy(opened)):
        assert list(restored.state_dict()) == list(model.state_dict())
        x = torch.randn(shape)
        assert list(flat(restored(x.clone()))) == list(flat(copy.deepcopy(opened)(x.clone())))
        assert len(surgery.record(restored, x)) == len(surgery.record(copy.deepcopy(opened), x))


def test_any_graph_module_can_be_rewritten() -> None:
    model = Reused()
    plain = fx.symbolic_trace(model)
    opened = surgery.insert(plain, surgery.select(plain, "op:linear"))
    x = torch.randn(2, 4)
    assert torch.equal(opened(x), model(x))
    assert [activation.path for activation in surgery.record(opened, x)] == ["shared", "shared@1", "tied"]


def test_inserting_into_a_rewritten_model_adds_to_it() -> None:
    traced = surgery.trace(Reused())
    first, second, third = surgery.operations(traced)
    opened = surgery.insert(surgery.insert(traced, [third]), [first])
    assert [activation.operation for activation in surgery.record(opened, torch.zeros(1, 4))] == [first, third]
    assert surgery.operations(opened) == (first, second, third)


def test_inserting_after_an_operation_of_another_graph_is_an_error() -> None:
    elsewhere = surgery.operations(surgery.trace(InPlace()))[0]
    with pytest.raises(SelectionError, match="no operation 'conv'"):
        surgery.insert(surgery.trace(Reused()), [elsewhere])


def test_a_submodule_of_the_model_called_extractors_is_kept() -> None:
    class Taken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extractors = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.extractors(x)

    model = Taken()
    _, opened = everywhere(model)
    x = torch.randn(1, 2)
    assert torch.equal(opened(x), model(x))


def test_a_model_that_stops_after_its_last_extractor_keeps_earlier_writes_to_buffers() -> None:
    model = Counting()
    traced = surgery.trace(model)
    chosen = surgery.select(traced, "op:mean")
    short = stop_after_last_extractor(surgery.insert(traced, chosen))
    seen: list[Any] = []
    with listening(short, lambda operation, value: seen.append(value)):
        assert short(torch.ones(2, 3)) is None
    assert len(seen) == 1
    assert short.calls.item() == 1
    assert short.average.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("net", "shape"), CASES)
@pytest.mark.parametrize("training", [False, True])
def test_every_recorded_value_is_what_it_was_when_it_was_computed(
    net: type[nn.Module], shape: tuple[int, ...], training: bool
) -> None:
    traced, opened = everywhere(net().train(training))
    x = torch.randn(shape)
    torch.manual_seed(0)
    oracle = Oracle(copy.deepcopy(traced))
    oracle.run(x.clone())
    torch.manual_seed(0)
    recorded = surgery.record(opened, x.clone())
    assert len(recorded) == len(oracle.values) > 0
    assert all(torch.equal(a.values, b) for a, b in zip(recorded, oracle.values, strict=True))


@pytest.mark.parametrize("name", ["unet_256", "resnet18", "densenet121", "googlenet", "convnext_tiny"])
def test_real_networks_are_recorded_as_they_run_eagerly(name: str) -> None:
    torch.manual_seed(0)
    if name == "unet_256":
        model: nn.Module = surgery.load_model("facades")
        x = torch.randn(1, 3, 256, 256)
    else:
        options = {"init_weights": False} if name == "googlenet" else {}
        model = torchvision.models.get_model(name, weights=None, **options)
        x = torch.randn(1, 3, 64, 64)
    model.eval()
    with torch.no_grad():
        expected = eager_values(model, x.clone())
        output = model(x.clone())
        traced, opened = everywhere(model)
        recorded = surgery.record(opened, x.clone())
        assert torch.equal(opened(x.clone()), output)
        oracle = Oracle(traced)
        oracle.run(x.clone())
    assert len(recorded) == len(oracle.values)
    assert all(torch.equal(a.values, b) for a, b in zip(recorded, oracle.values, strict=True))
    by_module: dict[str, list[Tensor]] = {}
    for activation in recorded:
        by_module.setdefault(activation.operation.path.partition("@")[0], []).append(activation.values)
    called = {name: values for name, values in expected.items() if name in by_module}
    assert len(called) == len(expected)
    for name_, values in called.items():
        assert all(torch.equal(a, b) for a, b in zip(by_module[name_], values, strict=True)), name_


def test_the_path_of_a_tensor_in_a_container_ends_with_its_key() -> None:
    _, opened = everywhere(Containers())
    paths = [activation.path for activation in surgery.record(opened, torch.zeros(2, 6, 4))]
    assert paths[:3] == ["lstm[0]", "lstm[1][0]", "lstm[1][1]"]
    assert "split[0]" in paths
    assert "split[1]" in paths


def test_a_copy_of_a_model_with_a_listener_has_no_listener() -> None:
    _, opened = everywhere(InPlace())
    heard: list[Any] = []
    with listening(opened, lambda operation, value: heard.append(operation)):
        copy.deepcopy(opened)(torch.randn(1, 3, 4, 4))
    assert heard == []


class Repeats(nn.Module):
    def forward(self, x: torch.Tensor, times: int) -> torch.Tensor:
        for _ in range(int(times)):
            x = torch.relu(x)
        return x


def test_each_thread_records_its_own_run() -> None:
    x = torch.ones(1, 3)
    traced = surgery.trace(Repeats(), (x, torch.tensor(2)), front_end="observed")
    opened = surgery.insert(traced, surgery.select(traced, "relu*"))

    def record(times: int) -> int:
        return len(surgery.record(opened, x, torch.tensor(times)))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(record, [1, 2, 3] * 10)) == [1, 2, 3] * 10


def test_listening_ends_with_its_block_even_after_an_error() -> None:
    _, opened = everywhere(Constant())

    def fail(operation: surgery.Operation, value: object) -> None:
        raise ValueError(operation.path)

    with pytest.raises(ValueError, match="mul"), listening(opened, fail):
        opened.forward(torch.zeros(1, 3))
    assert all(extractor.listener is None for extractor in find_extractors(opened))
