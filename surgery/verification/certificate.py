"""The proof that a rewritten model is the original: both run side by side, and everything compared bit for bit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from surgery.eager import (
    SEED,
    ExternalState,
    RunResult,
    compare_values_with_eager,
    insert_everywhere,
    lock_global_state,
    run_once,
)
from surgery.errors import SurgeryError, first_line
from surgery.graph import (
    bitwise_equal,
    check_graph,
    copy_sharing_parameters,
    describe_difference,
    graphs_by_mode,
    is_extractor,
    operation_nodes,
    set_mode,
)
from surgery.text import escape_html, html_table
from surgery.tracing import unwrap_model

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing that was compared in one case."""

    what: str
    """``output``, ``values``, ``random numbers``, ``buffers``, ``modes``, ``gradients``, ``hooks``, or of no run."""
    mode: str
    """``eval``, ``train`` or ``as-is``; empty for what is of no run."""
    case: str
    """``example``, ``again``, ``batch 2``, ``256x512``; empty for what is of no run."""
    same: bool | None
    """Whether all bits are the same; None where there was nothing to compare."""
    count: int
    """How many tensors, modules or hooks were compared."""
    difference: str = ""
    """The first thing that differs."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What `certify` found."""

    model: str
    operations: int
    extracted: int
    comparisons: tuple[Comparison, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return all(comparison.same is not False for comparison in self.comparisons)

    @property
    def difference(self) -> str:
        """The first operation that differs, or else the first other thing; empty where nothing does."""
        found = [comparison for comparison in self.comparisons if comparison.same is False]
        return next((describe_comparison(c) for c in (*(c for c in found if c.what == "values"), *found)), "")

    def __repr__(self) -> str:
        return f"Certificate({self._title()}; {self._verdict()})"

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        found = {(c.what, c.mode, c.case): c for c in self.comparisons}
        cases = list(dict.fromkeys((c.mode, c.case) for c in self.comparisons))
        rows = [
            (what, *(_table_cell(found.get((what, *case))) for case in cases))
            for what in dict.fromkeys(c.what for c in self.comparisons)
        ]
        header = ["", *(" ".join(case) for case in cases)]
        return f"{html_table(self._title(), header, rows)}<div>{escape_html(self._verdict())}</div>"

    def _title(self) -> str:
        return f"{self.model}: {self.operations} operations, {self.extracted} extracted"

    def _verdict(self) -> str:
        return "the same, bit for bit" if self.same else f"not the same: {self.difference}"

    def record(self) -> dict[str, Any]:
        """As plain values, for machines."""
        comparisons = [asdict(comparison) for comparison in self.comparisons]
        head = {"model": self.model, "operations": self.operations, "extracted": self.extracted, "same": self.same}
        return {**head, "difference": self.difference, "comparisons": comparisons}


def certify(
    model: nn.Module,
    opened: fx.GraphModule,
    *inputs: Any,
    modes: Sequence[str] | None = None,
    others: bool = True,
) -> Certificate:
    """Hold a rewritten (or just traced) model against the original, bit for bit.

    In each mode, on the inputs, and with `others` in a second run after that, on a batch twice as large, and on images
    twice as wide where the original takes them: outputs, the state of the random generators, buffers, modes module by
    module, hooks that fire, and the value of every operation, extracted or not, against a run of the original that
    clones each value as it is produced; on the inputs themselves the gradients of the outputs with respect to inputs
    and parameters too. Then that parameters are shared or equal, and that the original is as it was: parameters,
    buffers, modes module by module, hooks.

    `modes` are eval and train, and ``as-is`` too where some modules of the model are in another mode than the rest, and
    the rewritten model has not been put into one. A mode that the rewritten model refuses is not compared, and its
    refusal is said. Nothing is left behind in either. `inputs` are tensors, or whatever `model` takes by position.
    """
    check_graph(opened)
    with lock_global_state():
        return _certify(unwrap_model(model), opened, inputs, modes, others=others)


def _certify(
    model: nn.Module, opened: fx.GraphModule, inputs: tuple[Any, ...], modes: Sequence[str] | None, *, others: bool
) -> Certificate:
    before = model_state(model)
    modes = modes or ("eval", "train", *(["as-is"] if None in graphs_by_mode(opened) else []))
    comparisons: list[Comparison] = []
    for mode in modes:
        rewritten = _rewritten_in_mode(opened, _TRAINING[mode])
        if isinstance(rewritten, SurgeryError):
            comparisons.append(Comparison("output", mode, "example", None, 0, str(rewritten)))
            continue
        for case, given in _cases(inputs) if others else [("example", inputs)]:
            comparisons += _compare_case(model, rewritten, given, mode, case)
    comparisons += _compare_parameters(model, opened)
    comparisons.append(compare_original_state(model, before))
    known = list(operation_nodes(opened))
    inserted = sum(is_extractor(opened, node) for node in opened.graph.nodes)
    return Certificate(type(model).__name__, len(known), inserted, tuple(comparisons))


def _cases(inputs: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The inputs; the same again; twice as many of them; where they are images or films, twice as wide."""
    yield "example", inputs
    yield "again", inputs
    tensors = [value for value in inputs if isinstance(value, Tensor) and value.ndim and value.layout is torch.strided]
    if tensors and len({len(tensor) for tensor in tensors}) == 1:
        yield f"batch {2 * len(tensors[0])}", tuple(_doubled(value, 0) for value in inputs)
    if tensors and all(tensor.ndim in (4, 5) for tensor in tensors):
        height, width = tensors[0].shape[-2:]
        yield f"{height}x{2 * width}", tuple(_doubled(value, -1) for value in inputs)


def _doubled(value: Any, axis: int) -> Any:
    """A tensor and, behind it, its mirror image."""
    return torch.cat([value, value.flip(-1)], axis) if isinstance(value, Tensor) and value.ndim else value


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """The rewritten model in one mode, as it is and with extractors everywhere."""

    opened: fx.GraphModule
    everywhere: fx.GraphModule


_TRAINING: dict[str, bool | None] = {"eval": False, "train": True, "as-is": None}


def _rewritten_in_mode(opened: fx.GraphModule, training: bool | None) -> _Rewritten | SurgeryError:
    try:
        return _Rewritten(
            set_mode(copy_sharing_parameters(opened), training), insert_everywhere(opened, training=training)
        )
    except SurgeryError as error:  # there is no graph for this mode
        return error


def _compare_case(
    model: nn.Module, rewritten: _Rewritten, inputs: tuple[Any, ...], mode: str, case: str
) -> Iterator[Comparison]:
    def compared(what: str, count: int, difference: str | None) -> Comparison:
        return Comparison(
            what, mode, case, difference is None if count or difference else None, count, difference or ""
        )

    outside = ExternalState(model)

    def run(one: nn.Module, gradients: bool) -> RunResult:
        subject = set_mode(copy_sharing_parameters(one), _TRAINING[mode])
        with outside.preserve():
            if case == "again":
                run_once(subject, inputs, gradients=False)
            return run_once(subject, inputs, gradients=gradients)

    try:
        truth, gradients = _run_original(partial(run, model), gradients=case == "example")
    except Exception as error:  # noqa: BLE001 - what a model raises is its own business
        if case == "example":
            yield compared("output", 0, f"the original does not run: {first_line(error)}")
        return
    opened = rewritten.opened
    try:
        ours = run(opened, gradients)
    except Exception as error:  # noqa: BLE001
        yield compared("output", 1, f"the original runs, the rewritten does not: {first_line(error)}")
        return
    found = [compared(what, *pair) for what, pair in _differences(truth, ours, opened).items()]
    if case != "again":
        count, others = compare_values_with_eager(model, rewritten.everywhere, inputs, _TRAINING[mode], seed=SEED)
        found.insert(1, compared("values", count, next(iter(others), None)))
    if any(comparison.same is False for comparison in found):
        again = _differences(truth, run(model, gradients), opened)
        for comparison in found:
            itself = again.get(comparison.what, (0, None))[1]
            unsure = replace(comparison, same=None, difference="the original itself gives another each time it runs")
            yield unsure if comparison.same is False and itself else comparison
    else:
        yield from found


def _run_original(run: Callable[[bool], RunResult], *, gradients: bool) -> tuple[RunResult, bool]:
    """A run of the original, and whether it was one with gradients: some models run without them alone."""
    if gradients:
        with suppress(Exception):
            return run(True), True
    return run(False), False


def _differences(truth: RunResult, ours: RunResult, opened: fx.GraphModule) -> dict[str, tuple[int, str | None]]:
    """How many there are of each thing, and the first difference."""
    kept = [(name, value) for name, value in ours.buffers if name in dict(truth.buffers)]
    modes = [(path, training) for path, training in ours.modes if path in dict(truth.modes)]
    return {
        "output": (len(truth.output) - 1, _first_difference(truth.output, ours.output)),
        "random numbers": (len(truth.generators), _first_difference(truth.generators, ours.generators)),
        "buffers": (len(truth.buffers), _first_difference(truth.buffers, kept)),
        "modes": (len(truth.modes), _first_difference(truth.modes, modes)),
        "gradients": (len(truth.gradients), _first_difference(truth.gradients, ours.gradients)),
        "hooks": _compare_hooks(truth.hooks, ours.hooks, opened),
    }


def _compare_hooks(
    truth: Counter[tuple[str, str]], ours: Counter[tuple[str, str]], opened: fx.GraphModule
) -> tuple[int, str | None]:
    """Hooks of the modules that are called whole; those of modules that were traced into are part of the graph."""
    whole = {str(node.target) for node in opened.graph.nodes if node.op == "call_module"}
    count = 0
    for (path, kind), times in truth.items():
        if path in whole:
            count += 1
            if ours[path, kind] != times:
                return count, f"the {kind} of {path} fire {ours[path, kind]} times, not {times}"
    return count, None


def _first_difference(truth: Sequence[tuple[str, Any]], ours: Sequence[tuple[str, Any]]) -> str | None:
    """The first pair that differs, in words."""
    if [name for name, _ in truth] != [name for name, _ in ours]:
        return f"there are {len(ours)}, not {len(truth)}"
    for (name, one), (_, other) in zip(truth, ours, strict=True):
        tensors = isinstance(one, Tensor) and isinstance(other, Tensor)
        if not (
            bitwise_equal(one, other) if tensors else one is other or (not isinstance(one, Tensor) and one == other)
        ):
            return f"{name or 'it'}: {describe_difference(other, one)}".removeprefix("it: ")
    return None


def _compare_parameters(model: nn.Module, opened: nn.Module) -> Iterator[Comparison]:
    ours = dict(opened.named_parameters())
    truth = dict(model.named_parameters())
    difference = None
    if list(ours) != list(truth):
        difference = f"{len(ours)} of them, not {len(truth)}"
    else:
        for name, value in truth.items():
            if ours[name].requires_grad != value.requires_grad:
                difference = f"{name} has requires_grad {ours[name].requires_grad}, not {value.requires_grad}"
            elif not bitwise_equal(ours[name], value):
                difference = f"{name}: {describe_difference(ours[name], value)}"
            if difference:
                break
    yield Comparison("parameters", "", "", difference is None if truth or ours else None, len(truth), difference or "")


def model_state(model: nn.Module) -> list[tuple[str, Any]]:
    """All that a run or a tracing could change in a model."""
    found: list[tuple[str, Any]] = []
    for path, module in model.named_modules():
        found.append((f"the mode of {path or 'the model'}", module.training))
        found += [(f"the {n.strip('_')} of {path}", list(h)) for n, h in vars(module).items() if n.endswith("_hooks")]
        found.append((f"the attributes of {path or 'the model'}", sorted(vars(module))))
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        found += [(name, value.detach().clone()), (f"the identity of {name}", id(value))]
        found.append((f"requires_grad of {name}", value.requires_grad))
    return found


def compare_original_state(model: nn.Module, before: list[tuple[str, Any]]) -> Comparison:
    difference = _first_difference(before, model_state(model))
    return Comparison("the original", "", "", difference is None, len(before), difference or "")


def _table_cell(comparison: Comparison | None) -> str:
    if comparison is None or comparison.same is None:
        return ""
    return f"{comparison.count} ✓" if comparison.same else "✗"


def describe_comparison(comparison: Comparison) -> str:
    where = ", ".join(filter(None, (comparison.mode, comparison.case)))
    return f"{comparison.what}{f' ({where})' if where else ''}: {comparison.difference}"
