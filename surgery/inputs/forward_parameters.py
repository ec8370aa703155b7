"""The parameters of a model's forward, by which the inputs of a run are named."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.eager import bind_example
from surgery.errors import ModelError, did_you_mean
from surgery.inputs.model_inputs import normalizes_image_lists
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import nn

_LISTS = ("list[Tensor]", "List[Tensor]", "Sequence[Tensor]")


@dataclass(frozen=True, slots=True)
class ForwardParameters:
    """The parameters of a model's forward, in their order."""

    model: str
    """The name of the model's class."""
    names: tuple[str, ...]
    required: tuple[str, ...]
    """Those without a default."""
    lists: frozenset[str]
    """Those that are annotated as a list of tensors, one for each image: ``images: list[Tensor]`` of a detector."""
    takes_more: bool
    """Whether forward takes keyword arguments of any name."""

    @classmethod
    def of(cls, model: nn.Module) -> ForwardParameters:
        """Return the parameters of the forward of `model`."""
        parameters = inspect.signature(model.forward).parameters.values()
        names = tuple(_input_name(p) for p in parameters if p.kind is not p.VAR_KEYWORD)
        annotated = {p.name for p in parameters if _annotation(p).replace("torch.", "").endswith(_LISTS)}
        return cls(
            type(model).__name__,
            names,
            bind_example(model, None).names,
            frozenset(
                name for name in names if name in annotated or (name == names[0] and normalizes_image_lists(model))
            ),
            any(p.kind is p.VAR_KEYWORD for p in parameters),
        )

    def has(self, name: str) -> bool:
        """Return whether forward takes an input of this name."""
        return name in self.names or self.takes_more

    def in_order(self, given: Collection[str]) -> list[str]:
        """Return names in the order of the parameters; those that are no parameters come last."""
        return [*(name for name in self.names if name in given), *(name for name in given if name not in self.names)]

    def first_without(self, given: Collection[str]) -> str:
        """Return the first parameter that is not among `given`: that of the images. Raises ModelError if all are."""
        found = next((name for name in self.names if name not in given), None)
        if found is None:
            if self.takes_more:
                advice = f"{self.model} takes inputs of any name: give them by name, --input NAME=FILES"
            elif self.names:
                advice = f"{self.describe()}; one of them takes the images: leave out --input NAME=FILES for that one"
            else:
                advice = f"{self.describe()}; a run needs one"
            raise ModelError(f"{advice} (inputs= in Python)")
        return found

    def explain_unknown(self, name: str) -> str:
        """Return one line for a name that forward does not take."""
        shown = abbreviate_list(self.names, 12) or "none"
        return f"forward of {self.model} has no input {name!r}; it has {shown}{did_you_mean(name, self.names)}"

    def check_complete(self, given: Collection[str]) -> None:
        """Raise ModelError if an input that the model requires is not among `given`."""
        if missing := [name for name in self.required if name not in given]:
            advice = f"give {missing[0]} too: --input {missing[0]}=FILES (inputs= in Python)"
            raise ModelError(f"{self.describe(self.required)}; {advice}")

    def describe(self, names: Collection[str] | None = None) -> str:
        """Return how many inputs the model takes, and their names."""
        names = self.names if names is None else names
        return f"{self.model} takes {len(names)} inputs ({abbreviate_list(names, 12) or 'none'})"


def split_arguments(model: nn.Module, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs by name as arguments of a model: by position up to the first that is left out, then by name."""
    named = dict(values)
    positional = []
    for parameter in inspect.signature(model.forward).parameters.values():
        name = _input_name(parameter)
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD) or name not in named:
            break
        positional.append(named.pop(name))
    return tuple(positional), named


def as_example(model: nn.Module, values: Mapping[str, Any]) -> Any:
    """Return inputs by name as an example for `trace`: a tuple if all can be given by position, else a dict."""
    arguments, named = split_arguments(model, values)
    return dict(values) if named else arguments


def _input_name(parameter: inspect.Parameter) -> str:
    """Return the name of an input; the first of ``*xs`` is called ``xs_0``, as in a graph."""
    return f"{parameter.name}_0" if parameter.kind is parameter.VAR_POSITIONAL else parameter.name


def _annotation(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    return annotation if isinstance(annotation, str) else str(annotation)
