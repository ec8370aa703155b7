"""The entries of a manifest: what is said about a run, its operations and its activations."""

from __future__ import annotations

import hashlib
import math
import platform
from dataclasses import asdict, fields
from importlib.metadata import version
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch

from surgery import __version__
from surgery.output.json_values import picture_limits
from surgery.output.summaries import OperationSummary
from surgery.types import Facts, LayoutDecision, Operation, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

    from surgery.graph import TraceInfo
    from surgery.output.folder import WrittenFile
    from surgery.types import Activation


_LAYOUT_FLAGS = ("is_requested", "is_guessed", "is_fallback")


def run_entry(
    model: nn.Module, source: str | None, weights: str | None, settings: dict[str, Any], recipe: Mapping[str, str]
) -> dict[str, Any]:
    """Return the head of a manifest: the versions, the model with a hash of its weights, the settings, the recipe.

    `source` and `weights` say where the model and its weights come from.
    """
    return {
        "surgery": __version__,
        "model": {
            "class": type(model).__name__,
            "source": source,
            "weights": weights,
            "weights_sha256": hash_weights(model),
        },
        "settings": settings,
        "recipe": dict(recipe),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pillow": version("pillow"),
        },
    }


def trace_entries(trace: TraceInfo) -> dict[str, Any]:
    """Return the entries that say how the model was traced: what is known of it, and its hazards if there are any."""
    reach = None if trace.reach is None else asdict(trace.reach)
    known = {"front_end": trace.front_end, "is_verified": trace.is_verified, "reason": trace.reason, "reach": reach}
    entries: dict[str, Any] = {"trace": {name: value for name, value in known.items() if value is not None}}
    return entries | ({"hazards": [str(hazard) for hazard in trace.hazards]} if trace.hazards else {})


def operation_entry(operation: Operation) -> dict[str, Any]:
    """Return the entry of a selected operation."""
    entry = {
        "path": operation.path,
        "name": operation.name,
        "kind": operation.kind,
        "index": operation.index,
        "source": operation.source,
        "tensors": [asdict(spec) for spec in operation.tensors or ()],
    }
    return {**entry, "is_new": True} if operation.is_new else entry


def summary_entry(summary: OperationSummary) -> dict[str, Any]:
    """Return the entry of an operation, with its layout and its facts over all images."""
    entry = operation_entry(summary.operation) | {"batch": summary.batch}
    if summary.pictures > 1:
        entry["pictures"] = summary.pictures
    if (layout := summary.layout) is not None:
        entry |= {"layout": layout.name, "layout_reason": layout.reason}
        if flags := [flag for flag in _LAYOUT_FLAGS if getattr(layout, flag)]:
            entry["layout_flags"] = flags
    return entry | known_facts(summary.facts)


def read_summary(entry: Mapping[str, Any], operations: Mapping[str, Operation]) -> OperationSummary:
    """Return the summary of an entry. `operations` are those of the model by path, which know their scopes."""
    specs = tuple(TensorSpec(spec["key"], tuple(spec["shape"]), spec["dtype"]) for spec in entry["tensors"])
    path, kind, index, source = (entry[name] for name in ("path", "kind", "index", "source"))
    known = operations.get(path)
    scopes = () if known is None else known.scopes
    operation = Operation(entry["name"], path, kind, index, scopes, source, specs, entry.get("is_new", False))
    layout = None
    if "layout" in entry:
        flags: dict[str, Any] = {flag: True for flag in _LAYOUT_FLAGS if flag in entry.get("layout_flags", ())}
        layout = LayoutDecision(entry["layout"], entry["layout_reason"], **flags)
    facts: dict[str, Any] = {name: entry.get(name) for name in _FACT_NAMES}
    return OperationSummary(operation, Facts(**facts), layout, entry.get("pictures", 1), entry["batch"])


def activation_entry(activation: Activation, written: Iterable[WrittenFile]) -> dict[str, Any]:
    """Return the entry of an activation, with the files that were written of it and the limits of its pictures."""
    files = []
    for number, (name, of, crc32, _) in enumerate(written):
        file: dict[str, Any] = {"file": name} if crc32 is None else {"file": name, "crc32": crc32}
        if of is not None and number < len(of.pictures):
            file |= picture_limits(of.pictures[number])
        files.append(file)
    return {
        "path": activation.path,
        "index": activation.operation.index,
        "shape": list(activation.values.shape),
        "dtype": str(activation.values.dtype).removeprefix("torch."),
        "layout": activation.layout.name,
        "layout_reason": activation.layout.reason,
        **known_facts(activation.facts),
        **({"measures": _measure_entries(activation)} if activation.measures else {}),
        "files": files,
    }


def _measure_entries(activation: Activation) -> dict[str, list[float | None]]:
    """Return the numbers of each measure to six digits; None where there is no number."""
    return {
        name: [float(f"{number:.6g}") if math.isfinite(number) else None for number in numbers.tolist()]
        for name, numbers in activation.measures.items()
    }


_FACT_NAMES = tuple(field.name for field in fields(Facts))
_fact_values = attrgetter(*_FACT_NAMES)


def known_facts(facts: Facts) -> dict[str, Any]:
    """Return the facts by name, without those that are None."""
    pairs = zip(_FACT_NAMES, _fact_values(facts), strict=True)
    return {name: value for name, value in pairs if value is not None}


def hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 over the state_dict in order: the name, dtype, shape and bytes of each entry."""
    total = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            if value.numel():
                total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
