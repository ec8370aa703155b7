"""Batches through a model without computing it: shapes by fake tensors, and noise in place of the values."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

from surgery.eager import DispatchMode
from surgery.errors import ModelError, SurgeryError, first_line
from surgery.extraction.model_runner import ModelRunner
from surgery.extraction.trial import ADVICE, Trial
from surgery.graph import call_arguments, clone_inputs, contexts
from surgery.rewriting import listening

if TYPE_CHECKING:
    from surgery.inputs import Batch
    from surgery.types import Operation


class RehearsedRunner(ModelRunner):
    """Gives noise of the right shapes to the sinks, for every value that the model would compute.

    Noise compresses least of all values, so that the files are about as large as they can become.
    """

    trial: Trial
    """Learns how many bytes the forward pass would hold."""

    def run(self, batch: Batch) -> str | None:
        """Rehearse one batch. Raises ModelError for a model that needs values to run."""
        plan = self._plan
        images = [item.name for item in batch.inputs]
        values: dict[str, Any] = batch.to(plan.device, self._dtype) | clone_inputs(plan.fixed_inputs)
        self._reached.clear()
        seen: list[tuple[Operation, Any]] = []
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        args, kwargs = call_arguments(plan.rewritten, {name: values[name] for name in self._input_names})
        args, kwargs = tree_map(lambda each: _fake(fake, each), (args, kwargs))
        live = _LiveBytes()
        live.add((args, kwargs))
        try:
            with (
                self._python_state.restart(),
                torch.random.fork_rng(devices=[]),
                torch.no_grad(),
                contexts.closing(),
                listening(plan.rewritten, lambda operation, value: seen.append((operation, _describe(value)))),
                fake,
                live,
            ):
                output = _describe(self._tracker.run(*args, **kwargs))
        except SurgeryError:
            raise
        except Exception as error:
            raise ModelError(f"the model can't run without values: {first_line(error)}; {ADVICE}") from error
        weights = {each.untyped_storage().data_ptr(): each for each in _weights(plan.rewritten)}
        own = sum(each.untyped_storage().nbytes() for each in weights.values())
        self.trial.live_bytes = max(self.trial.live_bytes, own + live.most)
        generator = torch.Generator().manual_seed(plan.seed)
        self._consume_inputs(values, images)
        for operation, value in seen:
            self._on_value(images, operation, _noise_for(value, generator))
        if plan.records_output:
            self._consume_output(batch.main, _noise_for(output, generator), images)
        return None


def _weights(model: torch.nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _fake(mode: FakeTensorMode, value: Any) -> Any:
    return mode.from_tensor(value) if isinstance(value, Tensor) else value


@dataclass(frozen=True, slots=True)
class _Leaf:
    """In place of a tensor, so that it lives no longer than in a run."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _describe(value: Any) -> Any:
    return tree_map(lambda each: _Leaf(tuple(each.shape), each.dtype) if isinstance(each, Tensor) else each, value)


def _noise_for(value: Any, generator: torch.Generator) -> Any:
    """Return a value of the same structure, shapes and dtypes. Numbers are from 0 to 1, and integers below 128."""

    def noise(each: Any) -> Any:
        if not isinstance(each, _Leaf):
            return each
        shape, dtype = each.shape, each.dtype
        if dtype.is_floating_point or dtype.is_complex:
            return torch.rand(shape, generator=generator).to(dtype)
        return torch.randint(0, 2 if dtype == torch.bool else 128, shape, generator=generator).to(dtype)

    return tree_map(noise, value)


class _LiveBytes(DispatchMode):
    """Adds up the storages of the tensors that operations return, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, values: Any) -> None:
        for value in tree_leaves(values):
            if not isinstance(value, Tensor) or value.layout != torch.strided:
                continue
            storage = value.untyped_storage()
            if storage not in self._known:
                self._known.add(storage)
                self._now += storage.nbytes()
                weakref.finalize(storage, self._remove, storage.nbytes())
        self.most = max(self.most, self._now)

    def _remove(self, size: int) -> None:
        self._now -= size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.add(result)
        return result
