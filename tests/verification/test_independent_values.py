"""Values of observed models are compared with those that plain hooks see: what observes them may be at fault itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.eager.oracle import compare_with_eager
from surgery.eager.oracle_runs import _ValueRecorder
from surgery.observing.extraction_observer import ExtractionObserver
from tests.nets import InPlace, eager_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from surgery.eager import ObservedCall


def late(before: Callable[[Any, ObservedCall], Any]) -> Callable[[Any, ObservedCall], Any]:
    """Return a method that receives a call when the next one is done, which may have worked in place."""

    def on_call(self: Any, call: ObservedCall) -> Any:
        for waiting in vars(self).pop("waiting", ()):
            before(self, waiting)
        vars(self)["waiting"] = [call]
        return call.value

    return on_call


def opened() -> tuple[nn.Module, nn.Module, Tensor]:
    model = InPlace().eval()
    x = torch.randn(2, 3, 6, 6)
    traced = surgery.trace(model, x, front_end="observed")
    return model, surgery.insert(traced, surgery.select(traced, "*")), x


def test_the_values_of_leaves_are_those_that_hooks_see() -> None:
    model, rewritten, x = opened()
    with torch.no_grad():
        seen = eager_values(model, x)
        recorded = {a.operation.path: a.values for a in surgery.record(rewritten, x)}
    assert {*seen} == {"conv", "norm", "act", "drop"}
    assert all(torch.equal(recorded[path], values[0]) for path, values in seen.items())


@pytest.mark.parametrize("broken", [(ExtractionObserver,), (ExtractionObserver, _ValueRecorder)])
def test_an_extractor_that_gets_values_too_late_is_found(
    monkeypatch: pytest.MonkeyPatch, broken: tuple[Any, ...]
) -> None:
    """Even if the eager run, which is observed in the same way, gets them too late as well."""
    model, rewritten, x = opened()
    assert compare_with_eager(model, rewritten, [x], training=False, seed=0)[1] is None
    for kind in broken:
        monkeypatch.setattr(kind, "on_call", late(kind.on_call))
    count, first = compare_with_eager(model, rewritten, [x], training=False, seed=0)
    assert count > 3
    assert first is not None
    assert first.startswith("norm (")
    certificate = surgery.certify(model, rewritten, x, modes=["eval"], others=False)
    assert certificate.difference.startswith("values (eval, example): norm (")


def test_hooks_leave_torchs_transformer_on_its_fast_path() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()
    x = torch.randn(2, 5, 8)
    rewritten = surgery.trace(model, x, front_end="observed")
    certificate = surgery.certify(model, rewritten, x, modes=["eval"])
    assert certificate.same, certificate.difference


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) if x.sum() > 0 else self.other(x).relu_()


def test_values_of_operations_that_the_example_has_not_are_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Choosing().eval(), torch.ones(2, 3)
    traced = surgery.trace(model, x, front_end="observed")
    found = {c.what: c for c in surgery.certify(model, traced, -x, modes=["eval"], others=False).comparisons}
    assert (found["values"].same, found["values"].count) == (True, 4)  # of sum, gt, other and relu
    monkeypatch.setattr("surgery.rewriting.extractor.NewOperationExtractor.receive", lambda *_: False)
    lost = surgery.certify(model, traced, -x, modes=["eval"], others=False)
    assert lost.difference == "values (eval, example): other is recorded 0 times, not 1"


class NamedAsAnOperator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.add(x) + 1 + float(x.sum())


def test_an_operator_is_not_taken_for_a_module_of_the_same_path() -> None:
    model, x = NamedAsAnOperator().eval(), torch.ones(2, 3)
    certificate = surgery.certify(model, surgery.trace(model, x, front_end="observed"), x)
    assert certificate.same
