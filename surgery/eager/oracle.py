"""What a model computes when it runs eagerly: the slow and obvious truth that every shortcut is held against."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from operator import getitem
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx
from torch.fx._symbolic_trace import _wrapped_fns_to_patch
from torch.overrides import TorchFunctionMode

from surgery.eager.external_state import ExternalState
from surgery.eager.user_code import fresh_caches
from surgery.graph import (
    bitwise_equal,
    clone_inputs,
    copy_sharing_parameters,
    describe_difference,
    inplace,
    is_extractor,
    named_tensors,
    operation_nodes,
    run_model,
    set_mode,
)
from surgery.rewriting import insert, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from torch import nn

    from surgery.types import Operation

Seen = dict[str, list[list["Tensor"]]]
"""Under the path of an operation, without ``@n``: for each time it ran, the tensors that it gave."""


def run_eagerly(
    model: nn.Module, whole: Collection[str], inputs: Sequence[Any], functions: Collection[object] = ()
) -> tuple[Any, Seen]:
    """Run `model`, and clone each value the moment it is produced.

    `whole` are the paths of the modules that are taken as one operation; of all others, the operations in them are
    seen. So are those in functions of the user's, but for `functions` that were given to `torch.fx.wrap`: they are one
    operation too. Returns the output and what was seen. Hooks are put on `model` for the time of the run.
    """
    watcher = Watcher(set(whole))
    output = run_watched(model, watcher, inputs, functions)
    return output, dict(watcher.seen)


def run_watched(
    model: nn.Module,
    watcher: Watcher,
    inputs: Sequence[Any],
    functions: Collection[object] = (),
    keywords: Mapping[str, Any] | None = None,
) -> Any:
    """Run `model` while `watcher` sees its operations. Hooks are put on `model` for the time of the run."""
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            continue
        handles.append(module.register_forward_pre_hook(watcher.entering(name), prepend=True))
        handles.append(module.register_forward_hook(watcher.leaving(name)))
    try:
        watcher.resume()
        with _kept_whole(functions, watcher):
            return run_model(model, inputs, keywords)
    finally:
        watcher.pause()
        for handle in handles:
            handle.remove()


@contextmanager
def _kept_whole(functions: Collection[object], watcher: Watcher) -> Iterator[None]:
    """Within the block, those of the functions that `torch.fx.wrap` knows are seen as one operation each."""
    places = [
        (space, name, space[name])
        for (_, name), space in _wrapped_fns_to_patch.items()
        if any(space.get(name) is function for function in functions)
    ]
    try:
        for space, name, function in places:
            space[name] = watcher.seeing(function)
        yield
    finally:
        for space, name, function in places:
            space[name] = function


class Watcher(TorchFunctionMode):
    """Sees every call of torch, and keeps those that are made by the model itself and not inside a whole module.

    It looks away while a whole module runs: torch's own modules leave their fast paths where somebody watches.
    """

    def __init__(self, whole: set[str]) -> None:
        super().__init__()
        self.whole = whole
        self._watching = False
        self.scopes = [""]
        self.inside: list[str] = []
        self.seen: Seen = defaultdict(list)

    def resume(self) -> None:
        """See the calls from now on."""
        if not self._watching:
            self.__enter__()  # type: ignore[no-untyped-call]
            self._watching = True

    def pause(self) -> None:
        """See no more calls, where no other mode of torch has been entered since."""
        if self._watching and torch.overrides._get_current_function_mode() is self:  # noqa: SLF001
            self.__exit__(None, None, None)
            self._watching = False

    def entering(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any) -> None:
            if self.inside or name in self.whole:
                self.inside.append(name)
                self.pause()
            else:
                self.scopes.append(name)

        return hook

    def leaving(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, value: Any) -> None:
            if not self.inside:
                self.scopes.pop()
                return
            self.inside.pop()
            if not self.inside or name in self.whole:
                self.keep(name, value)
            if not self.inside:
                self.resume()

        return hook

    def seeing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` as one operation."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.inside:
                return function(*args, **kwargs)
            self.inside.append(function.__name__)
            try:
                value = function(*args, **kwargs)
            finally:
                self.inside.pop()
            self.keep_here(function, value)
            return value

        return call

    def keep_here(self, function: Callable[..., Any], value: Any) -> None:
        """Keep what a function gave in the module that runs."""
        scope, kind = self.scopes[-1], kind_of(function)
        self.keep(f"{scope}.{kind}" if scope else kind, value)

    def keep(self, path: str, value: Any) -> None:
        if tensors := [tensor.detach().clone() for _, tensor in named_tensors(value)]:
            self.seen[path].append(tensors)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        value = func(*args, **(kwargs or {}))
        if not self.inside:
            self.keep_here(func, value)
        return value


def against_eager(
    model: nn.Module, opened: fx.GraphModule, inputs: Sequence[Any], *, training: bool | None, seed: int
) -> tuple[int, str | None]:
    """Every operation of a graph, extracted or not, against a run of the original that clones each value.

    Both run in a mode, or for None as they are. Memory that nobody has written yet is not compared.

    Returns how many values were compared, and the first that differs, in words.
    """
    everywhere = open_everywhere(opened, training=training)
    count, others = values_against_eager(model, everywhere, inputs, training, seed=seed)
    return count, others[0] if others else None


def open_everywhere(opened: fx.GraphModule, *, training: bool | None) -> fx.GraphModule:
    """A copy in one of the modes, or for None as it is, with an extractor after every operation."""
    opened = set_mode(copy_sharing_parameters(opened), training)
    known = operation_nodes(opened)
    return insert(
        opened, [operation for node, operation in known if not any(is_extractor(opened, user) for user in node.users)]
    )


def values_against_eager(
    model: nn.Module, everywhere: fx.GraphModule, inputs: Sequence[Any], training: bool | None, *, seed: int
) -> tuple[int, tuple[str, ...]]:
    """The same for a graph that is open everywhere already, in its mode; and all that differ."""
    recorded, seen = _recorded_and_seen(model, everywhere, inputs, training, seed=seed)
    found = (f"{o.path} ({o.source or o.kind}){difference}" for o, difference in _others(recorded, seen))
    return len(recorded), tuple(found)


def first_difference(
    model: nn.Module, traced: fx.GraphModule, inputs: Sequence[Any], training: bool | None, *, seed: int
) -> tuple[Operation, str]:
    """The first operation of a graph whose value an eager run does not give, and how it differs, in words.

    Raises StopIteration where none does.
    """
    everywhere = open_everywhere(traced, training=training)
    return next(_others(*_recorded_and_seen(model, everywhere, inputs, training, seed=seed)))


def _recorded_and_seen(
    model: nn.Module, everywhere: fx.GraphModule, inputs: Sequence[Any], training: bool | None, *, seed: int
) -> tuple[list[_Value], Seen]:
    source, scripted = _indexed(everywhere), _scripted(everywhere)
    recorded: list[_Value] = []
    containers: set[str] = set()

    def keep(operation: Operation, value: Any) -> None:
        if not isinstance(value, Tensor):
            containers.add(operation.path)
        tensors = [tensor.detach().clone() for _, tensor in named_tensors(value)]
        if tensors and operation.kind not in NOT_SEEN and operation.path not in scripted:
            recorded.append(_Value(operation, tensors, source.get(operation.path) in containers))

    graph = everywhere.graph
    whole = {str(n.target) for n in graph.nodes if n.op == "call_module" and not is_extractor(everywhere, n)}
    functions = [node.target for node in graph.nodes if node.op == "call_function"]
    full = copy_sharing_parameters(everywhere)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        subject, given = set_mode(copy_sharing_parameters(model), training), [clone_inputs(value) for value in inputs]
        outside = ExternalState(subject)
        with fresh_caches(subject), outside.kept():
            _, seen = run_eagerly(subject, whole, given, functions)
        torch.manual_seed(seed)
        with listening(full, keep):
            full(*(clone_inputs(value) for value in inputs))
    received = [tensor.detach() for _, tensor in named_tensors([clone_inputs(value) for value in inputs])]
    # What an earlier run has kept outside the model, such as a grid, is not computed again, but by a graph.
    received += [value for place in outside.places for value in place.values() if isinstance(value, Tensor)]
    return recorded, {**seen, "": [received]}


NOT_SEEN = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "get_rng_state"}
"""Operations whose values are chance, or which no mode of torch sees."""


def _scripted(opened: fx.GraphModule) -> set[str]:
    """The paths of the calls of TorchScript, into which no eager run can see."""
    return {
        operation.path
        for node, operation in operation_nodes(opened)
        if node.op == "call_module" and isinstance(opened.get_submodule(str(node.target)), torch.jit.ScriptModule)
    }


@dataclass(frozen=True, slots=True)
class _Value:
    operation: Operation
    tensors: list[Tensor]
    part: bool
    """Whether it was taken out of a tuple, list or dict: a step of Python's, which no eager run shows."""


def _indexed(opened: fx.GraphModule) -> dict[str, str]:
    """The paths of the operations that index what another computes, and the path of the other."""
    paths = {node: operation.path for node, operation in operation_nodes(opened)}
    found: dict[str, str] = {}
    for node, path in paths.items():
        if node.target is getitem:
            behind = node.args[0]
            while isinstance(behind, fx.Node) and is_extractor(opened, behind):
                behind = behind.args[0]
            if behind in paths:
                found[path] = paths[behind]  # type: ignore[index]
    return found


def _others(recorded: Sequence[_Value], seen: Seen) -> Iterator[tuple[Operation, str]]:
    """The operations whose value the eager run did not give there, and in that order, and how they differ.

    A function of Python's that is traced whole, such as `getattr`, can't be seen in the eager run, and what runs inside
    it is seen in its place; so a path that was not seen is looked for among all values, and of one that was, some may
    be passed over.
    """
    everything = [tensor for runs in seen.values() for tensors in runs for tensor in tensors]
    places = dict.fromkeys(seen, 0)
    for value in recorded:
        operation, tensors = value.operation, value.tensors
        path = operation.path.partition("@")[0]
        if value.part or path not in seen:
            if not all(any(bitwise_equal(tensor, other) for other in everything) for tensor in tensors):
                yield operation, " gives what the eager run never gives"
            continue
        runs = seen[path]
        place = next((n for n in range(places[path], len(runs)) if _equal(tensors, runs[n])), None)
        if place is None:
            yield operation, _distance(tensors, runs, places[path])
        else:
            places[path] = place + 1


def _equal(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(some) == len(others) and all(bitwise_equal(one, other) for one, other in zip(some, others, strict=True))


def _distance(tensors: Sequence[Tensor], runs: Sequence[Sequence[Tensor]], place: int) -> str:
    if place >= len(runs):
        return " runs more often than in the eager run"
    for one, other in zip(tensors, runs[place], strict=False):
        if not bitwise_equal(one, other):
            return f": {describe_difference(one, other)}"
    return " gives another number of tensors"


def kind_of(function: Callable[..., Any]) -> str:
    """What the operation of a function of torch is called in a graph: ``add`` for ``add_`` and ``__radd__`` alike."""
    name: str = getattr(function, "__name__", type(function).__name__)
    bare = name.strip("_").lower()
    if name.startswith("__"):
        bare = _OTHERWISE.get(bare, bare)
    return bare or "call"


_OTHERWISE = {
    "get": "getattr",
    **{function.__name__: function.__name__[1:] for function in inplace.AUGMENTED_ASSIGNMENTS},
    **{f"r{name}": name for name in ("add", "sub", "mul", "truediv", "div", "floordiv", "mod", "pow", "matmul")},
    **{f"r{name}": name for name in ("and", "or", "xor", "lshift", "rshift")},
}
"""Special methods whose operation has another name in a graph."""
