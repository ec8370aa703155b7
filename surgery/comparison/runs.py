"""Runs: a model with a mode, a seed, a dtype, a device and edits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from surgery.editing import apply_edits, edit_text, edit_texts, parse_edits, resolve_edit
from surgery.errors import EditError, ModelError
from surgery.extraction import check_settings, copy_for_run, trace_for_run
from surgery.graph import call_arguments, input_names, operations, trace_info
from surgery.inputs import ForwardParameters, input_dtype, to_model
from surgery.models import load_model
from surgery.tracing import unwrap_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surgery.comparison.weight_store import WeightStore
    from surgery.editing import EditRecipe
    from surgery.extraction import Mode
    from surgery.graph import Operations
    from surgery.inputs import FilePatterns
    from surgery.plugins import Plugins
    from surgery.types import Operation


@dataclass(frozen=True, eq=False)
class Run:
    """One of the runs that are compared."""

    model: nn.Module | str | os.PathLike[str]
    """A module, or what `surgery.load_model` takes: a weights file, a name."""
    name: str | None = None
    """What the run is called in tables and pictures; by default what distinguishes it from the others."""
    mode: Mode = "eval"
    """``eval``, ``train`` or ``as-is``."""
    seed: int = 0
    """Seeds torch's random generators before each batch."""
    dtype: torch.dtype | str | None = None
    """To which the parameters and floating-point inputs are converted: ``bfloat16``; None to leave them."""
    device: str | torch.device = "cpu"
    edits: EditRecipe = ()
    """What is changed in the model, as in `surgery.extract`."""
    images: FilePatterns | torch.Tensor = ()
    """Its own images, in the order of the others; by default those of the comparison."""
    source: str | None = None
    """What a module was loaded from, for names and the manifest."""

    @property
    def module(self) -> nn.Module:
        """The model itself, without wrappers. Raises ModelError if it is not loaded yet."""
        if not isinstance(self.model, nn.Module):
            raise ModelError(f"the model of the run {self.name or self.model} is not loaded")
        return unwrap_model(self.model)

    def describe(self, plugins: Plugins | None = None) -> dict[str, str]:
        """Return what the run is, by property, as texts."""
        model = type(self.model).__name__ if isinstance(self.model, nn.Module) else os.fspath(self.model)
        return {
            "model": self.source or model,
            "mode": self.mode,
            "seed": str(self.seed),
            "dtype": str(self.dtype or "own dtype").removeprefix("torch."),
            "device": str(self.device),
            "edits": ", ".join(edit_texts(self.edits, plugins)),
        }


class PreparedRun:
    """A run whose model is loaded, converted, traced and edited."""

    def __init__(
        self,
        run: Run,
        example: Mapping[str, Any] | None,
        tracing: Mapping[str, Any],
        plugins: Plugins | None,
        others: Sequence[PreparedRun] = (),
    ) -> None:
        """`run` has a loaded model. `example` are inputs by name, and `tracing` are arguments of `surgery.trace`.

        A run of `others` that differs in its seed or its edits alone, and has the same example, shares its traced
        model. Raises what `surgery.load_model`, `surgery.trace` and `surgery.edit` raise.
        """
        check_settings(run.mode, 1, "none", run.device, run.seed)
        _check_no_reference(run.edits, plugins)
        self.run, self.name = run, run.name or ""
        self.original = run.module
        self.device = torch.device(run.device)
        alike = next((each for each in others if self._shares_trace(each)), None)
        self.subject: nn.Module = (
            convert(copy_for_run(self.original, run.mode, run.device), run.dtype) if alike is None else alike.subject
        )
        self._parameters = ForwardParameters.of(self.subject)
        self.dtype: torch.dtype | None = input_dtype(self.subject)
        given = None if example is None else self.inputs(example)
        self.traced: nn.Module = trace_for_run(self.subject, tracing, given) if alike is None else alike.traced
        self.model: nn.Module = (
            apply_edits(self.traced, run.edits, seed=run.seed, plugins=plugins) if run.edits else self.traced
        )
        self.operations: Operations = operations(self.model)
        self._by_path = {operation.path: operation for operation in self.operations}
        self.trace = trace_info(self.traced)

    def _shares_trace(self, other: PreparedRun) -> bool:
        one, two = self.run, other.run
        settings = [(each.mode, str(each.dtype), str(each.device)) for each in (one, two)]
        return self.original is other.original and settings[0] == settings[1]

    def edited(self, operation: Operation) -> Operation:
        """Return the edited value of an operation of this run; the operation itself if it is not edited."""
        while (later := self._by_path.get(f"{operation.path}'")) is not None:
            operation = later
        return operation

    def inputs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of another run by name, on the device of this one, and floats in its dtype.

        If the model has other names for its inputs, they correspond in their order. Raises ModelError if they can't.
        """
        parameters = self._parameters
        names = list(values)
        if not all(parameters.has(name) for name in names):
            names = list(parameters.names[: len(values)])
        if len(names) < len(values) or any(name not in names for name in parameters.required):
            given = ", ".join(values)
            raise ModelError(f"the runs can't have the same inputs: there are {given}, and {parameters.describe()}")
        return {
            name: to_model(value, self.device, self.dtype) for name, value in zip(names, values.values(), strict=True)
        }

    def arguments(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the traced model for its inputs by name."""
        return call_arguments(self.model, {name: values[name] for name in input_names(self.model)})


def _check_no_reference(edits: EditRecipe, plugins: Plugins | None) -> None:
    """Raise EditError for an edit that needs a reference run."""
    for _, change in parse_edits(edits):
        if getattr(resolve_edit(change, plugins), "needs_reference", False):
            raise EditError(
                f"{edit_text(change, plugins)} needs a reference run, which a comparison does not make; in Python, "
                "give a run the model that is edited already: surgery.Run(surgery.edit(..., reference=images))"
            )


def load_run_model(run: Run, plugins: Plugins | None, store: WeightStore) -> nn.Module:
    """Return the model of a run, loaded if it is given by a name or a file."""
    if isinstance(run.model, nn.Module):
        return run.model
    model = load_model(run.model, seed=run.seed, plugins=plugins)
    store.add(model)
    return model


def convert(model: nn.Module, dtype: torch.dtype | str | None) -> nn.Module:
    """Return a model with its floating-point parameters and buffers in a dtype. Raises ModelError for no such dtype."""
    if dtype is None:
        return model
    target = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype, None)
    if not isinstance(target, torch.dtype) or not target.is_floating_point:
        raise ModelError(f"a dtype is float32, bfloat16, float16 or float64, not {dtype!r}")
    return model.to(target)
