"""Where the weights of a model come from: a file, its builder, or the random numbers that it was initialized with.

While a model is built, every operation of torch on this thread is watched. A parameter is random if random numbers were
written to it, or to what it was computed from, and nothing else was copied over them since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import finalize

import torch
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from surgery.graph import named_tensors
from surgery.models.seeding import seeded_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

_SAMPLE = 16
"""Values of a parameter that are kept, to see later whether it still has its first ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """Where the weights of a model came from when it was opened."""

    weights: str | None = None
    """In words; None where it is not known."""
    seed: int = 0
    """Of the random numbers that the model was built with."""
    samples: Mapping[str, Tensor] = field(default_factory=dict)
    """Names of the parameters that were random, and some of their values."""
    advice: str = ""
    """How trained weights can be had in place of random ones."""
    part: str = ""
    """The network of a file that was taken; empty where the file has only one."""
    others: tuple[str, ...] = ()
    """The networks beside it."""
    averaged: bool = False
    """Whether they are averages over the training."""

    def random_parameters(self, model: nn.Module) -> list[str]:
        """The names of the parameters of `model` that still have the random values that they had at first."""
        return [
            name
            for name, parameter in model.named_parameters()
            if (before := self.samples.get(name)) is not None and _nearly_equal(before, _sample_values(parameter))
        ]

    def describe_weights(self, model: nn.Module) -> str | None:
        """Where the weights of `model` come from, in words; None where it is not known."""
        names = self.random_parameters(model)
        if not names:
            return self.weights
        if _is_entirely_random(model, names):
            return f"random, seed {self.seed}"
        return f"random in part, seed {self.seed}: {_some(names)}"

    def notes(self, model: nn.Module, source: str) -> list[str]:
        """Lines for whoever looks at pictures of `model`: which network of a file it is, and that it is untrained."""
        return [*self.notes_on_choice(source), *self.notes_on_random_weights(model, source)]

    def notes_on_choice(self, source: str) -> list[str]:
        """A line that says which of several networks in the file was taken; none where there was no choice."""
        if not self.others:
            return []
        averages = " (averages over the training)" if self.averaged else ""
        taken = f"{source} holds {len(self.others) + 1} networks: the part {self.part}{averages} is taken"
        return [f"{taken}; there is also {_some(self.others)}"]

    def notes_on_random_weights(self, model: nn.Module, source: str) -> list[str]:
        """A line that says that weights of `model` are random; none where they are not, or where it is not known."""
        names = self.random_parameters(model)
        if not names:
            return []
        if _is_entirely_random(model, names):
            advice = f"; {self.advice}" if self.advice else ""
            return [f"{source} is untrained: its weights are random (seed {self.seed}), none were loaded{advice}"]
        count = len(list(model.named_parameters()))
        said = f"{len(names)} of {count} parameters of {source} are random (seed {self.seed}), and were not loaded"
        return [f"{said}: {_some(names)}"]


_RECORDS: dict[int, Provenance] = {}
"""By the identity of the model, and not in it: an attribute would be one more that the model's code does not know."""


def record_provenance(model: nn.Module, provenance: Provenance) -> None:
    """Keep where a model's weights come from for as long as the model is there."""
    if id(model) not in _RECORDS:
        finalize(model, _RECORDS.pop, id(model), None)
    _RECORDS[id(model)] = provenance


def get_provenance(model: nn.Module) -> Provenance:
    """Where a model's weights come from; one that says nothing where the model was not opened here."""
    return _RECORDS.get(id(model)) or Provenance()


def build_with_seed(factory: Callable[[], Any], seed: int) -> tuple[Any, dict[str, Tensor]]:
    """What a factory gives, with its random numbers seeded, and samples of its parameters that are random.

    The generators of the process are as before. Raises ModelError for a seed that torch can't take.
    """
    from torch import nn

    with seeded_generators(seed), _RandomnessTracker() as values:
        built = factory()
    if not isinstance(built, nn.Module):
        return built, {}
    random = {name: _sample_values(value) for name, value in built.named_parameters() if values.is_random(value)}
    return built, {name: sample for name, sample in random.items() if sample.numel()}


class _RandomnessTracker(TorchDispatchMode):
    """Watches the operations of this thread, and knows which memory has random values in it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._random: dict[int, list[Any]] = {}
        """Address of a storage -> the storage, kept so that no other has its address, and elements yet to be copied
        over."""

    def is_random(self, tensor: Tensor) -> bool:
        """Whether a tensor has random values."""
        return any(address in self._random for address, _ in _storages(tensor))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        taken = [value for _, value in named_tensors([args, kwargs])]
        given = [value for _, value in named_tensors(result)]
        if torch.Tag.nondeterministic_seeded in func.tags:
            for value in given:
                self._mark(value)
        elif func.overloadpacket is torch.ops.aten.copy_:
            if self.is_random(taken[1]):
                self._mark(taken[0])
            else:
                self._clear(taken[0])
        elif func.overloadpacket in (torch.ops.aten.zero_, torch.ops.aten.fill_):
            self._clear(taken[0])
        elif any(self.is_random(value) for value in taken):
            known = {address for value in taken for address, _ in _storages(value)}
            for value in given:
                if not any(address in known for address, _ in _storages(value)):
                    self._mark(value)
        return result

    def _mark(self, tensor: Tensor) -> None:
        for address, storage in _storages(tensor):
            self._random[address] = [storage, storage.nbytes()]

    def _clear(self, tensor: Tensor) -> None:
        """A weight may be copied over piece by piece: it is random until as much was copied as there is."""
        for address, _ in _storages(tensor):
            if entry := self._random.get(address):
                entry[1] -= tensor.numel() * tensor.element_size()
                if entry[1] <= 0:
                    del self._random[address]


def _storages(tensor: Tensor) -> Iterator[tuple[int, Any]]:
    if tensor.layout is torch.strided and not is_lazy(tensor):
        storage = tensor.untyped_storage()
        yield storage._cdata, storage  # noqa: SLF001 - its address: that of its data may be none


def _sample_values(tensor: Tensor) -> Tensor:
    """Some values of a tensor, spread over it; none of one that has no values."""
    if tensor.is_meta or tensor.layout is not torch.strided or not tensor.numel():
        return torch.empty(0)
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, len(flat) // _SAMPLE)][:_SAMPLE].cpu().to(torch.float32, copy=True)


def _nearly_equal(one: Tensor, other: Tensor) -> bool:
    """Equal up to the precision of bfloat16."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=0.01, atol=1e-6, equal_nan=True)


def _is_entirely_random(model: nn.Module, names: Sequence[str]) -> bool:
    """Whether what is not random is a vector or one value: biases, norms and new heads begin as constants."""
    random = set(names)
    return all(name in random or _is_constant(value) for name, value in model.named_parameters())


def _is_constant(value: Tensor) -> bool:
    if value.ndim < 2 or not value.numel() or value.layout is not torch.strided:
        return True
    return bool((value == value.reshape(-1)[0]).all())


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
