"""The proof that a rewritten model is the original: both run side by side, and everything compared bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from surgery.bits import apart, same_bits
from surgery.errors import SurgeryError, first_line
from surgery.nodes import is_extractor, operation_nodes
from surgery.oracle import open_everywhere, values_against_eager
from surgery.tracing import unwrap
from surgery.twins import twin
from surgery.values import copied, tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


SEED = 0
"""Of the random generators, before each of the two runs that are compared."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing that was compared in one case."""

    what: str
    """``output``, ``values``, ``random numbers``, ``buffers``, ``gradients``, ``hooks``, or of the model itself."""
    mode: str
    """``eval`` or ``train``; empty for what is of no run."""
    case: str
    """``example``, ``batch 2``, ``256x512``; empty for what is of no run."""
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
        """The first thing that differs; empty where nothing does."""
        return next((_said(c) for c in self.comparisons if c.same is False), "")

    def record(self) -> dict[str, Any]:
        """As plain values, for machines."""
        comparisons = [asdict(comparison) for comparison in self.comparisons]
        head = {"model": self.model, "operations": self.operations, "extracted": self.extracted, "same": self.same}
        return {**head, "comparisons": comparisons}


def certify(
    model: nn.Module,
    opened: fx.GraphModule,
    *inputs: Any,
    modes: Sequence[str] = ("eval", "train"),
    others: bool = True,
) -> Certificate:
    """Hold a rewritten (or just traced) model against the original, bit for bit.

    In each mode, on the inputs, and with `others` on a batch twice as large, and on images twice as wide where the
    original takes them: outputs, the state of the random generators, buffers, hooks that fire, and the value of every
    operation, extracted or not, against a run of the original that clones each value as it is produced; on the inputs
    themselves the gradients of the outputs with respect to inputs and parameters too. Then that parameters are shared
    or equal, and that the original is as it was: parameters, buffers, modes module by module, hooks.

    Nothing is left behind in either. `inputs` are tensors, or whatever `model` takes by position.
    """
    model = unwrap(model)
    before = _state(model)
    comparisons: list[Comparison] = []
    for mode in modes:
        rewritten = _in_mode(opened, training=mode == "train")
        for case, given in _cases(inputs) if others else [("example", inputs)]:
            comparisons += _side_by_side(model, rewritten, given, mode, case)
    comparisons += _parameters(model, opened)
    comparisons.append(_untouched(model, before))
    known = list(operation_nodes(opened))
    inserted = sum(is_extractor(opened, node) for node in opened.graph.nodes)
    return Certificate(type(model).__name__, len(known), inserted, tuple(comparisons))


def _cases(inputs: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The inputs; twice as many of them; where they are images or films, twice as wide."""
    yield "example", inputs
    tensors = [value for value in inputs if isinstance(value, Tensor) and value.ndim]
    if tensors and len({len(tensor) for tensor in tensors}) == 1:
        yield f"batch {2 * len(tensors[0])}", tuple(_doubled(value, 0) for value in inputs)
    if tensors and all(tensor.ndim in (4, 5) for tensor in tensors):
        height, width = tensors[0].shape[-2:]
        yield f"{height}x{2 * width}", tuple(_doubled(value, -1) for value in inputs)


def _doubled(value: Any, axis: int) -> Any:
    """A tensor and, behind it, its mirror image."""
    return torch.cat([value, value.flip(-1)], axis) if isinstance(value, Tensor) and value.ndim else value


@dataclass(slots=True)
class _Ran:
    """What is known of one run."""

    output: list[tuple[str, Any]]
    generators: list[tuple[str, Tensor]]
    buffers: list[tuple[str, Tensor]]
    gradients: list[tuple[str, Tensor | None]]
    hooks: Counter[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """The rewritten model in one mode, as it is and with extractors everywhere."""

    opened: fx.GraphModule
    everywhere: fx.GraphModule


def _in_mode(opened: fx.GraphModule, *, training: bool) -> _Rewritten | Exception:
    try:
        return _Rewritten(twin(opened).train(training), open_everywhere(opened, training=training))
    except SurgeryError as error:  # there is no graph for this mode
        return error


def _side_by_side(
    model: nn.Module, rewritten: _Rewritten | Exception, inputs: tuple[Any, ...], mode: str, case: str
) -> Iterator[Comparison]:
    def compared(what: str, count: int, difference: str | None) -> Comparison:
        return Comparison(
            what, mode, case, difference is None if count or difference else None, count, difference or ""
        )

    def run(one: nn.Module, gradients: bool) -> _Ran:
        return _run(twin(one).train(mode == "train"), inputs, gradients=gradients)

    try:
        truth, gradients = _truth(partial(run, model), gradients=case == "example")
    except Exception as error:  # noqa: BLE001 - what a model raises is its own business
        if case == "example":
            yield compared("output", 0, f"the original does not run: {first_line(error)}")
        return
    try:
        if isinstance(rewritten, Exception):
            raise rewritten  # noqa: TRY301
        opened = rewritten.opened
        ours = run(opened, gradients)
    except Exception as error:  # noqa: BLE001
        yield compared("output", 1, f"the original runs, the rewritten does not: {first_line(error)}")
        return
    found = [compared(what, *pair) for what, pair in _differences(truth, ours, opened).items()]
    count, others = values_against_eager(model, rewritten.everywhere, inputs, seed=SEED)
    found.insert(1, compared("values", count, next(iter(others), None)))
    if any(comparison.same is False for comparison in found):
        again = _differences(truth, run(model, gradients), opened)
        for comparison in found:
            itself = again.get(comparison.what, (0, None))[1]
            unsure = replace(comparison, same=None, difference="the original itself gives another each time it runs")
            yield unsure if comparison.same is False and itself else comparison
    else:
        yield from found


def _truth(run: Callable[[bool], _Ran], *, gradients: bool) -> tuple[_Ran, bool]:
    """A run of the original, and whether it was one with gradients: some models run without them alone."""
    if gradients:
        with suppress(Exception):
            return run(True), True
    return run(False), False


def _differences(truth: _Ran, ours: _Ran, opened: fx.GraphModule) -> dict[str, tuple[int, str | None]]:
    """How many there are of each thing, and the first difference."""
    kept = [(name, value) for name, value in ours.buffers if name in dict(truth.buffers)]
    return {
        "output": (len(truth.output) - 1, _first(truth.output, ours.output)),
        "random numbers": (len(truth.generators), _first(truth.generators, ours.generators)),
        "buffers": (len(truth.buffers), _first(truth.buffers, kept)),
        "gradients": (len(truth.gradients), _first(truth.gradients, ours.gradients)),
        "hooks": _hooks(truth.hooks, ours.hooks, opened),
    }


def _run(module: nn.Module, inputs: tuple[Any, ...], *, gradients: bool) -> _Ran:
    """Run a module that nobody else has."""
    fired = _count_hooks(module)
    leaves = [
        value.detach().clone().requires_grad_(gradients) if _takes_gradient(value) else copied(value)
        for value in inputs
    ]
    sources = [(f"input {number}", leaf) for number, leaf in enumerate(leaves) if _takes_gradient(leaf)]
    sources += [(name, value) for name, value in module.named_parameters() if value.requires_grad]
    with torch.random.fork_rng(), torch.set_grad_enabled(gradients):
        torch.manual_seed(SEED)
        # A clone, since a model may work in place on its input, which a leaf does not allow.
        result = module(*(leaf.clone() if _takes_gradient(leaf) else leaf for leaf in leaves))
        generators = [torch.random.get_rng_state()]
        if torch.cuda.is_available():
            generators += torch.cuda.get_rng_state_all()
        found = _gradients(result, [value for _, value in sources]) if gradients else []
    return _Ran(
        output=[*_plain(result), *((key, tensor.detach().clone()) for key, tensor in tensors_in(result))],
        generators=[(f"generator {number}", state) for number, state in enumerate(generators)],
        buffers=[(name, buffer.detach().clone()) for name, buffer in module.named_buffers()],
        gradients=[(name, gradient) for (name, _), gradient in zip(sources, found, strict=False)],
        hooks=fired,
    )


def _takes_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _gradients(result: Any, sources: list[Tensor]) -> list[Tensor | None]:
    outputs = [tensor for _, tensor in tensors_in(result) if tensor.requires_grad]
    if not outputs or not sources:
        return []
    generator = torch.Generator().manual_seed(SEED)
    weights = [torch.randn(tensor.shape, generator=generator).to(tensor) for tensor in outputs]
    return list(torch.autograd.grad(outputs, sources, weights, allow_unused=True))


def _plain(result: Any) -> list[tuple[str, Any]]:
    """What in an output is no tensor, and how it is built."""
    return [("", _shape_of(result))]


def _shape_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, Mapping):
        return {name: _shape_of(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_shape_of(item) for item in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__


def _count_hooks(module: nn.Module) -> Counter[tuple[str, str]]:
    """Make each hook of each module count how often it fires."""
    fired: Counter[tuple[str, str]] = Counter()

    def counting(hook: Callable[..., Any], key: tuple[str, str]) -> Callable[..., Any]:
        def count(*args: Any, **kwargs: Any) -> Any:
            fired[key] += 1
            return hook(*args, **kwargs)

        return count

    for path, part in module.named_modules():
        for kind in ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
            hooks = getattr(part, kind)
            for key, hook in list(hooks.items()):
                hooks[key] = counting(hook, (path, kind.strip("_")))
    return fired


def _hooks(
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


def _first(truth: Sequence[tuple[str, Any]], ours: Sequence[tuple[str, Any]]) -> str | None:
    """The first pair that differs, in words."""
    if [name for name, _ in truth] != [name for name, _ in ours]:
        return f"there are {len(ours)}, not {len(truth)}"
    for (name, one), (_, other) in zip(truth, ours, strict=True):
        tensors = isinstance(one, Tensor) and isinstance(other, Tensor)
        if not (same_bits(one, other) if tensors else one is other or (not isinstance(one, Tensor) and one == other)):
            return f"{name or 'it'}: {apart(other, one)}".removeprefix("it: ")
    return None


def _parameters(model: nn.Module, opened: nn.Module) -> Iterator[Comparison]:
    ours = dict(opened.named_parameters())
    truth = dict(model.named_parameters())
    difference = None
    if list(ours) != list(truth):
        difference = f"{len(ours)} of them, not {len(truth)}"
    else:
        for name, value in truth.items():
            if ours[name].requires_grad != value.requires_grad:
                difference = f"{name} has requires_grad {ours[name].requires_grad}, not {value.requires_grad}"
            elif not same_bits(ours[name], value):
                difference = f"{name}: {apart(ours[name], value)}"
            if difference:
                break
    yield Comparison("parameters", "", "", difference is None if truth or ours else None, len(truth), difference or "")


def _state(model: nn.Module) -> list[tuple[str, Any]]:
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


def _untouched(model: nn.Module, before: list[tuple[str, Any]]) -> Comparison:
    difference = _first(before, _state(model))
    return Comparison("the original", "", "", difference is None, len(before), difference or "")


def _said(comparison: Comparison) -> str:
    where = ", ".join(filter(None, (comparison.mode, comparison.case)))
    return f"{comparison.what}{f' ({where})' if where else ''}: {comparison.difference}"
