"""Where the weights of a model come from: a file, its builder, or the random numbers that initialized it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import finalize

import torch

from surgery.models.random_weights import sample_values
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """Where the weights of a model came from when it was loaded."""

    weights: str | None = None
    """Their source in words; None if it is not known."""
    seed: int = 0
    """The seed of the random numbers that the model was built with."""
    samples: Mapping[str, Tensor] = field(default_factory=dict)
    """The names of the parameters that were random, with some of their values."""
    advice: str = ""
    """How to get trained weights in place of random ones."""
    part: str = ""
    """The name of the network in its file; empty if the file has only one."""
    others: tuple[str, ...] = ()
    """The names of the other networks in the file."""
    averaged: bool = False
    """Whether the weights are averages over the training."""
    remarks: tuple[str, ...] = ()
    """What the reader of the file says about the network, in clauses."""

    def random_parameters(self, model: nn.Module) -> list[str]:
        """Return the names of the parameters that still have their first, random values."""
        return [
            name
            for name, parameter in model.named_parameters()
            if (before := self.samples.get(name)) is not None and _nearly_equal(before, sample_values(parameter))
        ]

    def describe_weights(self, model: nn.Module) -> str | None:
        """Return where the weights of `model` come from, in words; None if it is not known."""
        names = self.random_parameters(model)
        if not names:
            return self.weights
        if _is_entirely_random(model, names):
            return f"random, seed {self.seed}"
        return f"random in part, seed {self.seed}: {abbreviate_list(names)}"

    def notes(self, model: nn.Module, source: str) -> list[str]:
        """Return notes for the viewer of pictures: which network was loaded, and which weights are random."""
        return [*self.notes_on_network(source), *self.notes_on_random_weights(model, source)]

    def notes_on_network(self, source: str) -> list[str]:
        """Return a note on which of several networks in the file was loaded, and what its reader says about it."""
        remarks = [f"{source}: {remark}" for remark in self.remarks]
        if not self.others:
            return remarks
        averages = " (averages over the training)" if self.averaged else ""
        count = len(self.others) + 1
        loaded = f"{source} holds {count} networks: the part {self.part}{averages} is loaded"
        return [f"{loaded}; there is also {abbreviate_list(self.others)}", *remarks]

    def notes_on_random_weights(self, model: nn.Module, source: str) -> list[str]:
        """Return a note if weights of `model` are random; empty if they are not, or if that is not known."""
        names = self.random_parameters(model)
        if not names:
            return []
        if _is_entirely_random(model, names):
            advice = f"; {self.advice}" if self.advice else ""
            return [f"{source} is untrained: its weights are random (seed {self.seed}), none were loaded{advice}"]
        count = len(list(model.named_parameters()))
        random = f"{len(names)} of {count} parameters of {source} are random (seed {self.seed}), and were not loaded"
        return [f"{random}: {abbreviate_list(names)}"]


_RECORDS: dict[int, Provenance] = {}
"""By the id of the model. An attribute of the model would be visible to the model's own code."""


def record_provenance(model: nn.Module, provenance: Provenance) -> None:
    """Store where a model's weights come from, for as long as the model exists."""
    if id(model) not in _RECORDS:
        finalize(model, _RECORDS.pop, id(model), None)
    _RECORDS[id(model)] = provenance


def get_provenance(model: nn.Module) -> Provenance:
    """Return where a model's weights come from; an empty `Provenance` if `load_model` did not load it."""
    return _RECORDS.get(id(model)) or Provenance()


def _nearly_equal(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal up to the precision of bfloat16."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=0.01, atol=1e-6, equal_nan=True)


def _is_entirely_random(model: nn.Module, names: Sequence[str]) -> bool:
    """Return whether all but `names` are vectors or constant: biases, norms and new heads begin as constants."""
    random = set(names)
    return all(name in random or _is_vector_or_constant(value) for name, value in model.named_parameters())


def _is_vector_or_constant(value: Tensor) -> bool:
    if value.ndim < 2 or not value.numel() or value.layout is not torch.strided:
        return True
    return bool((value == value.reshape(-1)[0]).all())
