"""The examination of one model: its traced graph compared with an eager run that clones every value."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

import surgery
from benchmarks.model_result import ModelResult
from benchmarks.tools import compute_reference, run_tool
from surgery.eager.example_inputs import bind_example
from surgery.eager.oracle import compare_values_with_eager, insert_everywhere
from surgery.eager.parameter_copies import copy_to_run
from surgery.errors import TraceError, first_line
from surgery.graph.bitwise import bitwise_equal
from surgery.graph.copies import copy_sharing_parameters
from surgery.graph.tensors import clone_inputs, named_tensors
from surgery.graph.trace_info import trace_info

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from benchmarks.tools import ToolResult
    from benchmarks.zoo import ZooModel
    from surgery.verification.certificate import Certificate, Comparison


NOT_COMPARED_ZOOS = ("transformers", "diffusers", "monai", "retyped")
"""The beginnings of the names of the zoos on which no tools are run, which would take hours."""


def examine(entry: ZooModel, tools: Collection[str]) -> ModelResult:
    """Trace a model, insert extractors everywhere, compare it with the original in both modes, and run the tools."""
    started = time.process_time()
    model, given = entry.build(), entry.inputs(1)
    inputs = _positional(model, given)
    head: dict[str, Any] = {"zoo": entry.zoo, "name": entry.name, "shape": entry.input_shape}
    facts: dict[str, Any] = {"plain": _symbolic_trace_verdict(model, inputs)}
    facts["eager_seconds"] = _eager_seconds(model, inputs)
    before = _fingerprint(model)  # now, since a run of the model may write to its parameters
    try:
        before_trace = time.process_time()
        traced = surgery.trace(model, given)
        facts["trace_seconds"] = time.process_time() - before_trace
        facts |= _compare(entry, model, traced)
    except TraceError as error:
        facts["refusal"] = str(error)
    except Exception as error:  # noqa: BLE001 - a fault of ours is a result like any other
        facts["differences"] = (f"surgery fails: {type(error).__name__}: {first_line(error)}",)
    facts["untouched"] = facts.get("untouched", True) and _fingerprint(model) == before
    results: dict[str, ToolResult] = {}
    if entry.zoo.startswith(NOT_COMPARED_ZOOS):
        tools = ()
    # The tools get deep copies, and a copy may not run: hooks that are methods still write to the original.
    with suppress(Exception), torch.no_grad():
        reference = compute_reference(model, inputs)
        results = {tool: run_tool(tool, model, inputs, reference) for tool in tools}
    return ModelResult(**head, **facts, tools=results, seconds=time.process_time() - started)


def _compare(entry: ZooModel, model: nn.Module, traced: nn.Module) -> dict[str, Any]:
    """Return the fields of a result that come from comparing a traced model with the original."""
    rewritten = surgery.insert(traced, surgery.operations(traced))
    inputs = _positional(model, entry.inputs(1))
    evaluated = surgery.certify(model, rewritten, *inputs, modes=["eval"])
    comparisons = list(evaluated.comparisons)
    if not any(c.case.startswith("batch") for c in comparisons):
        comparisons += _certify_as("batch 2", model, rewritten, entry.inputs(2))
    if entry.has_other_size:
        comparisons += _certify_as("another size", model, rewritten, entry.inputs(1, other=True))
    trained = surgery.certify(model, rewritten, *_positional(model, entry.inputs(2)), modes=["train"], others=False)
    info = trace_info(traced)
    facts = _certificate_facts(comparisons, trained)
    facts["wrong"] = _count_wrong_values(model, rewritten, inputs, [*comparisons, *trained.comparisons])
    facts |= {"operations": evaluated.operations, "notes": tuple(map(str, info.hazards))}
    return facts | {"front_end": info.front_end or "", "reason": info.reason or "", "reach": info.reach}


def _certify_as(case: str, model: nn.Module, rewritten: nn.Module, inputs: Any) -> list[Comparison]:
    """Return the comparisons in eval mode on other inputs, under the name of a case."""
    certificate = surgery.certify(model, rewritten, *_positional(model, inputs), modes=["eval"], others=False)
    return [replace(comparison, case=case) for comparison in certificate.comparisons]


def _eager_seconds(model: nn.Module, inputs: Sequence[Any]) -> float:
    """Return the CPU time of a run of a model, the least of three."""
    seconds = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        subject = copy_to_run(model, nn.Module())
        for _ in range(3):
            arguments = list(map(clone_inputs, inputs))
            started = time.process_time()
            subject(*arguments)
            seconds.append(time.process_time() - started)
    return min(seconds)


def _positional(model: nn.Module, inputs: tuple[Any, ...] | dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of a model's forward by position, with the defaults of those that are not given."""
    if isinstance(inputs, tuple):
        return inputs
    bound = signature(model.forward).bind(**inputs)
    last = max(list(bound.signature.parameters).index(name) for name in bound.arguments)
    bound.apply_defaults()
    return tuple(bound.arguments.values())[: last + 1]


def _fingerprint(model: nn.Module) -> list[object]:
    """Return everything of a model that tracing could change; of tensors, their identity, version and sum."""
    parts: list[object] = []
    for path, module in model.named_modules():
        values = vars(module).items()
        hooks = [(name, tuple(each)) for name, each in values if name.endswith("_hooks") and isinstance(each, dict)]
        parts.append((path, module.training, tuple(vars(module)), hooks))
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        parts.append((name, id(value), value._version, value.requires_grad, repr(value.detach().double().sum())))  # noqa: SLF001
    return parts


def _symbolic_trace_verdict(model: nn.Module, inputs: Sequence[Any]) -> str:
    """Return what `torch.fx.symbolic_trace` does with a model: "right", "wrong" or "refuses"."""
    model = copy_sharing_parameters(model)
    try:
        traced = fx.symbolic_trace(model)
    except Exception:  # noqa: BLE001 - whatever it raises
        return "refuses"
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = named_tensors(model(*map(clone_inputs, inputs)))
        torch.manual_seed(0)
        try:
            actual = named_tensors(traced(*map(clone_inputs, inputs)))
            same = all(bitwise_equal(one, other) for (_, one), (_, other) in zip(expected, actual, strict=True))
        except Exception:  # noqa: BLE001
            same = False
    return "right" if same else "wrong"


def _certificate_facts(evaluated: Sequence[Comparison], trained: Certificate) -> dict[str, Any]:
    """Return the fields of a result that the comparisons in eval and in train mode give."""
    both = (*evaluated, *trained.comparisons)
    cases = {c.case for c in evaluated if c.what == "output" and c.same}
    lines = {c: f"{c.what} ({c.mode} {c.case}): {c.difference}" for c in both}
    return {
        "values": sum(c.count for c in both if c.what == "values"),
        "batches": sum(case == "example" or case.startswith("batch") for case in cases),
        "sizes": sum(
            case in {"example", "another size"} or re.fullmatch(r"\d+x\d+", case) is not None for case in cases
        ),
        "train": trained.same and any(c.what == "output" and c.same for c in trained.comparisons),
        "differences": tuple(lines[c] for c in both if c.same is False and c.count),
        # Nothing is counted where the original itself does not run, such as a detector in train mode without targets.
        "unsure": tuple(lines[c] for c in both if c.difference and not (c.same is False and c.count)),
        "untouched": all(c.same for c in both if c.what == "the original"),
    }


def _count_wrong_values(
    model: nn.Module, rewritten: nn.Module, inputs: Sequence[Any], comparisons: Sequence[Comparison]
) -> int:
    """Return how many values differ. A certificate names the first one of each case only."""
    cases = [c for c in comparisons if c.what == "values" and c.same is False]
    if not cases:
        return 0
    everywhere = insert_everywhere(rewritten, training=False)
    compared = compare_values_with_eager(model, everywhere, bind_example(model, inputs), False, seed=0)
    return max(len(compared.differences), len(cases))
