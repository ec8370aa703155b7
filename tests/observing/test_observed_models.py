"""Observed models do what their models do, whoever copies, saves, compiles or interrupts them."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from threading import Thread
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.errors import SelectionError, TraceError
from surgery.graph import trace_info
from surgery.observing.observed_model import ObservedModel
from surgery.rewriting import stop_after_last_extractor


class Net(nn.Module):
    """Takes a branch on its values, and has a leaf of torch that has a fast path."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor, *, allowed: bool = True) -> Tensor:
        y = F.relu(self.norm(self.conv(x)), inplace=True)
        y = y + 1 if y.mean() > 0 else y - 1
        if not allowed:
            raise ValueError("not allowed")
        return self.encoder(y.flatten(2).transpose(1, 2))


class Loop(nn.Module):
    """Calls a layer as often as its input says."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        for _ in range(int(times)):
            x = torch.relu(self.layer(x))
        return x


class OwnDeepcopy(Loop):
    def __deepcopy__(self, memo: Any) -> OwnDeepcopy:
        result = OwnDeepcopy()
        result.load_state_dict(self.state_dict())
        return result


class OwnState(Loop):
    def __getstate__(self) -> Any:
        return {"weights": self.layer.state_dict()}

    def __setstate__(self, state: Any) -> None:
        OwnState.__init__(self)
        self.layer.load_state_dict(state["weights"])


class OwnReduce(Loop):
    def __reduce__(self) -> Any:
        return OwnReduce, (), self.__dict__


class OwnNames(nn.Module):
    """Has attributes and modules of the names that a traced model has."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = "mine"
        self.front_end = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.front_end(x) if self.reason == "mine" and x.sum() < 1e9 else x


class Registering(type):
    classes: ClassVar[list[type]] = []

    def __init__(cls, *args: Any) -> None:
        super().__init__(*args)
        Registering.classes.append(cls)


class Registered(nn.Module, metaclass=Registering):
    def __init_subclass__(cls, needed: int) -> None:
        raise RuntimeError("a subclass was made")

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() < 1e9 else x


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def opened(model: nn.Module, *example: Any) -> nn.Module:
    traced = surgery.trace(model.eval(), example, front_end="observed")
    return surgery.insert(traced, surgery.select(traced, "*"))


def paths(model: nn.Module, *inputs: Any) -> list[str]:
    return [activation.operation.path for activation in surgery.record(model, *inputs)]


class Threaded(nn.Module):
    """A part of it runs in another thread."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(3, 4, 1)
        self.far = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        results: list[Tensor] = []
        thread = Thread(target=lambda: results.append(self.far(x)))
        thread.start()
        thread.join()
        return self.near(x) + results[0]


def test_what_runs_in_another_thread_counts_as_unseen() -> None:
    traced = surgery.trace(Threaded().eval(), X, front_end="observed")
    assert [operation.path for operation in surgery.operations(traced)] == ["near", "add"]
    reach = trace_info(traced).reach
    assert reach is not None
    assert (reach.seen, reach.unseen_modules) == (2, ("far",))
    assert reach.total >= 4
    assert torch.equal(surgery.insert(traced, surgery.select(traced, "*"))(X), traced(X))


def test_a_model_that_needs_python_is_observed_and_says_why() -> None:
    traced = surgery.trace(Net().eval(), X)
    assert isinstance(traced, ObservedModel)
    assert isinstance(traced, Net)
    info = trace_info(traced)
    assert (info.front_end, info.is_verified, info.reach and info.reach.share) == ("observed", True, 1.0)
    assert "test_observed_models.py:35: a branch or loop" in traced.reason == info.reason
    with pytest.raises(TraceError, match=r"test_observed_models.py:35.*or give an example input"):
        surgery.trace(Net().eval())
    with pytest.raises(TraceError, match="a model is observed while it runs on an example"):
        surgery.trace(Net().eval(), front_end="observed")


@pytest.mark.parametrize("enabled", [True, False])
def test_torchs_fast_paths_stay_fast_paths(enabled: bool) -> None:
    model = Net().eval()
    rewritten = opened(model, X)
    with torch.set_grad_enabled(enabled):
        assert torch.equal(rewritten(X), model(X))
        values = {a.operation.path: a.values for a in surgery.record(rewritten, X)}
        assert torch.equal(values["encoder"], model(X))


def test_gradients_are_those_of_the_model() -> None:
    model, one, other = Net().eval(), X.clone().requires_grad_(), X.clone().requires_grad_()
    opened(model, X)(one).sum().backward()
    model(other).sum().backward()
    assert torch.equal(one.grad, other.grad)


def test_an_error_of_the_model_leaves_nothing_behind() -> None:
    model = Net().eval()
    rewritten = opened(model, X)
    with pytest.raises(ValueError, match="not allowed"):
        rewritten(X, allowed=False)
    assert torch.overrides._get_current_function_mode() is None
    assert len(surgery.record(rewritten, X)) == len(surgery.operations(rewritten))


def test_several_threads_run_the_same_observed_model() -> None:
    model = Net().eval()
    rewritten, same = opened(model, X), list[bool]()

    def work(number: int) -> None:
        own = X * number
        same.extend(torch.equal(rewritten(own), model(own)) for _ in range(10))

    threads = [Thread(target=work, args=(number,)) for number in (1, -2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 30


def test_the_operations_are_those_of_the_run_and_the_turns_of_a_loop_are_numbered() -> None:
    model = Loop()
    traced = surgery.trace(model, (torch.ones(1, 4), torch.tensor(2)))
    rewritten = surgery.insert(traced, surgery.select(traced, "op:linear"))
    assert paths(rewritten, torch.ones(1, 4), torch.tensor(2)) == ["layer", "layer@1"]
    assert paths(rewritten, torch.ones(1, 4), torch.tensor(1)) == ["layer"]
    assert paths(rewritten, torch.ones(1, 4), torch.tensor(4)) == ["layer", "layer@1", "layer@2", "layer@3"]
    new = [a.operation for a in surgery.record(rewritten, torch.ones(1, 4), torch.tensor(4))][2:]
    assert [operation.index for operation in new] == [6, 7]
    assert paths(rewritten, torch.ones(1, 4), torch.tensor(4))[2:] == ["layer@2", "layer@3"]


def test_operations_that_were_listed_one_by_one_stay_the_only_ones() -> None:
    traced = surgery.trace(Loop(), (torch.ones(1, 4), torch.tensor(1)))
    rewritten = surgery.insert(traced, [surgery.operations(traced)[0]])
    assert paths(rewritten, torch.ones(1, 4), torch.tensor(3)) == ["layer"]
    with pytest.raises(SelectionError, match="no operation 'layer@1'"):
        surgery.insert(traced, [surgery.operations(opened(Loop(), torch.ones(1, 4), torch.tensor(2)))[2]])


def test_a_run_stops_after_the_last_extractor() -> None:
    ran: list[bool] = []
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    traced = surgery.trace(model, torch.ones(1, 4), front_end="observed")
    traced.get_submodule("2").register_forward_hook(lambda *_: ran.append(True))
    stopping = stop_after_last_extractor(surgery.insert(traced, surgery.select(traced, "1")))
    assert stopping(torch.ones(1, 4)) is None
    assert paths(stopping, torch.ones(1, 4)) == ["1"]
    assert not ran


@pytest.mark.parametrize("kind", [Loop, OwnDeepcopy, OwnState, OwnReduce])
def test_copies_and_files_of_a_rewritten_model_extract_too(kind: type[nn.Module]) -> None:
    inputs = (torch.ones(1, 4), torch.tensor(2))
    model = kind()
    rewritten = opened(model, *inputs)
    for same in (copy.deepcopy(rewritten), pickle.loads(pickle.dumps(rewritten))):  # noqa: S301
        assert type(same) is type(rewritten)
        assert paths(same, *inputs) == paths(rewritten, *inputs) == ["layer", "relu", "layer@1", "relu@1"]
        assert torch.equal(same(*inputs), model.eval()(*inputs))
    assert next(copy.deepcopy(rewritten).parameters()) is not next(model.parameters())


def test_parameters_are_shared_until_the_model_is_converted() -> None:
    model = Net().eval()
    rewritten = opened(model, X)
    assert dict(rewritten.named_parameters()).keys() == dict(model.named_parameters()).keys()
    assert all(one is other for one, other in zip(rewritten.parameters(), model.parameters(), strict=True))
    assert list(rewritten.state_dict()) == list(model.state_dict())
    rewritten.double()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_model_may_have_attributes_of_any_name() -> None:
    model = OwnNames().eval()
    traced = surgery.trace(model, torch.ones(1, 4))
    assert traced.reason == "mine"
    assert torch.equal(traced(torch.ones(1, 4)), model(torch.ones(1, 4)))
    assert trace_info(traced).front_end == "observed"


def test_no_registry_of_the_users_classes_sees_the_class_of_an_observed_model() -> None:
    before = list(Registering.classes)
    traced = surgery.trace(Registered(), torch.ones(1, 4))
    assert Registering.classes == before
    assert (type(traced).__name__, type(traced).__module__) == ("Registered", Registered.__module__)


def test_an_observed_model_can_be_traced_again_and_be_a_part_of_another() -> None:
    rewritten = opened(Net(), X)
    for model in (rewritten, nn.Sequential(rewritten)):
        again = surgery.trace(model, X)
        assert torch.equal(opened(model, X)(X), model(X))
        assert len(surgery.operations(again)) == len(surgery.operations(rewritten))
    assert len(surgery.record(nn.Sequential(rewritten), X)) == len(surgery.operations(rewritten))


def test_nothing_keeps_an_observed_model_alive() -> None:
    rewritten = opened(Net(), X)
    surgery.record(rewritten, X)
    alive = weakref.ref(rewritten)
    del rewritten
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    "wish",
    [
        surgery.as_outputs,
        lambda model: torch.export.export(model, (X,), strict=False),
        lambda model: torch.jit.trace(model, X),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_needs_a_graph_says_that_there_is_none_and_why(wish: Any) -> None:
    traced = surgery.trace(Net().eval(), X)
    with pytest.raises(TraceError, match=r"Net can't .* observed and has no graph \(Net can't be traced: .*py:35"):
        wish(surgery.insert(traced, surgery.select(traced, "*")))


def test_a_front_end_that_does_not_exist_is_named() -> None:
    with pytest.raises(TraceError, match="no front end 'symbolical'; there are auto, symbolic and observed"):
        surgery.trace(Net(), X, front_end="symbolical")  # type: ignore[arg-type]


class Codebook(nn.Module):
    """Learns in train mode by itself, as the codebook of a VQ-VAE does."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.zeros(4), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.entries.data.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return x - self.entries


def test_a_parameter_that_forward_writes_to_in_train_mode_alone_is_copied() -> None:
    model = Codebook().eval()
    traced = surgery.trace(model, torch.ones(2, 4), front_end="observed").train()
    traced(torch.ones(2, 4))
    assert model.entries.abs().sum() == 0
    assert traced.get_parameter("entries").sum() > 0
