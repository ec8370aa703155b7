"""Runs that advance from operation to operation, so that several of them can be compared step by step."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from surgery.comparison.random_streams import RandomStream
from surgery.graph import GraphInterpreter, Operations, clone_inputs, contexts, operations
from surgery.rewriting import insert, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from surgery.comparison.graph_plans import GraphPlan
    from surgery.graph import OperationGroup
    from surgery.types import Operation


class Stepper(Protocol):
    """One run of a model. `advance` is called with the paths of operations in the order in which they run."""

    def prepare(self, path: str) -> Any:
        """Run until the operation is the next one to be computed, if the run can wait there."""
        ...

    def advance(self, path: str) -> Any:
        """Run until the operation is computed, and return its value, which holds until the next call.

        Returns None if the run does not reach the operation.
        """
        ...

    def finish(self) -> Any:
        """Run to the end, and return the output."""
        ...


class GraphStepper:
    """A run of a graph, node by node, with only the values that are still needed."""

    def __init__(self, plan: GraphPlan, args: Sequence[Any], stream: RandomStream) -> None:
        """`plan` has a graph that the run may change, and that nothing else runs."""
        self._plan = plan
        self._stream = stream
        self._interpreter = GraphInterpreter(plan.model, garbage_collect_values=False)
        self._interpreter.args_iter = iter(plan.model.graph.process_inputs(*args))
        self._next = 0
        self._output: Any = None

    def prepare(self, path: str) -> OperationGroup:
        """Run until the operation is the next one to be computed."""
        group = self._plan.groups[path]
        self._run_until(self._plan.place[group.nodes[0]])
        return group

    def arguments(self, path: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that an operation of a single node is about to be called with."""
        args, kwargs = self._interpreter.fetch_args_kwargs_from_env(self.prepare(path).node)
        return args, kwargs

    def evaluate(self, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return what the operation, which is the next one to be computed, gives for other arguments.

        The run stays as it is: the arguments are copied, and the random numbers are those of the operation itself.
        """
        node = self.prepare(path).node
        module = self._plan.model.get_submodule(str(node.target)) if node.op == "call_module" else nn.Module()
        if not _only_reads(module):
            args, kwargs = clone_inputs((args, dict(kwargs)))
        with self._stream.peek(module):
            return getattr(self._interpreter, node.op)(node.target, args, kwargs)

    def advance(self, path: str) -> Any:
        group = self._plan.groups[path]
        self._run_until(self._plan.place[group.nodes[-1]] + 1)
        values = tuple(self._interpreter.env.get(node) for node in group.values)
        return values[0] if len(values) == 1 else values

    def finish(self) -> Any:
        self._run_until(len(self._plan.nodes))
        return self._plan.model.graph.process_outputs(self._output)

    def _run_until(self, stop: int) -> None:
        interpreter = self._interpreter
        if self._next >= stop:
            return
        with self._stream.drawing():
            for place in range(self._next, stop):
                node = self._plan.nodes[place]
                # What the last one left is freed now: until then its value could be looked at.
                for dead in self._plan.dead_after.get(self._plan.nodes[place - 1], ()) if place else ():
                    interpreter.env.pop(dead, None)
                self._output = interpreter.env[node] = interpreter.run_node(node)
        self._next = stop


def _only_reads(module: nn.Module) -> bool:
    """Return whether a module is one of torch that does not write to its inputs."""
    return isinstance(module, (_ConvNd, _BatchNorm, nn.Linear))


def can_step(model: nn.Module) -> bool:
    """Return whether a model is a graph that can be run node by node beside others in one thread.

    The blocks of some graphs, such as ``with torch.autocast(...)``, would hold for the others too.
    """
    if not isinstance(model, fx.GraphModule):
        return False
    return all(getattr(node.target, "__module__", "") != contexts.__name__ for node in model.graph.nodes)


class ThreadStepper:
    """A run of any traced model in a thread of its own, which waits after each of the chosen operations."""

    def __init__(
        self,
        model: nn.Module,
        paths: Collection[str],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        stream: RandomStream,
        matches: Callable[[Operation], bool] | None,
        new: dict[str, None],
    ) -> None:
        """`paths` are those of the operations that the run waits after.

        Operations that the run has, the run of the example had not, and the selection `matches` are noted in `new`.
        """
        chosen = Operations(each for each in operations(model) if each.path in paths)
        chosen.matches = matches
        self._opened = insert(model, chosen)
        self._new = new
        self._order = {operation.path: number for number, operation in enumerate(chosen)}
        self._args, self._kwargs, self._stream = args, kwargs, stream
        self._reached: str | None = None
        self._value: Any = None
        self._output: Any = None
        self._error: BaseException | None = None
        self._is_done = self._is_left = False
        self._turn = threading.Condition()
        self._is_running = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._gradients = torch.is_grad_enabled()

    def prepare(self, path: str) -> None:
        """Do nothing: the run waits after operations only."""

    def advance(self, path: str) -> Any:
        while not self._is_done and (self._reached is None or self._order[self._reached] < self._order[path]):
            self._resume()
        return self._value if self._reached == path else None  # the run may have reached a later one

    def finish(self) -> Any:
        while not self._is_done:
            self._resume()
        return self._output

    def close(self) -> None:
        """End the run, wherever it is."""
        self._is_left = True
        if self._thread.is_alive():
            while not self._is_done:
                self._resume(ignoring_errors=True)
            self._thread.join()

    def _resume(self, *, ignoring_errors: bool = False) -> None:
        """Let the thread run until it waits again."""
        with self._turn:
            self._value = None
            self._is_running = True
            if not self._thread.is_alive():
                self._thread.start()
            self._turn.notify_all()
            while self._is_running:
                self._turn.wait()
        if self._error is not None and not ignoring_errors:
            error, self._error = self._error, None
            raise error

    def _run(self) -> None:
        try:
            with (
                torch.set_grad_enabled(self._gradients),
                self._stream.drawing(),
                listening(self._opened, self._wait),
                contexts.closing(),
            ):
                self._output = self._opened(*self._args, **self._kwargs)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._error = None if self._is_left else error
        with self._turn:
            self._is_done, self._is_running, self._reached, self._value = True, False, None, None
            self._turn.notify_all()

    def _wait(self, operation: Operation, value: Any) -> None:
        """Give a value to the other thread, and wait until that is done with it."""
        if self._is_left:
            raise _LeftError
        if operation.path not in self._order:
            self._new[operation.path] = None
            return
        self._stream.pause()
        with self._turn:
            self._reached, self._value, self._is_running = operation.path, value, False
            self._turn.notify_all()
            while not self._is_running:
                self._turn.wait()
        self._stream.resume()
        if self._is_left:
            raise _LeftError


class _LeftError(BaseException):
    """Ends the thread of a run that nobody waits for."""


@contextmanager
def closing(steppers: Sequence[Any]) -> Iterator[None]:
    """After the block, end the threads of runs that are not finished."""
    try:
        yield
    finally:
        for stepper in steppers:
            if isinstance(stepper, ThreadStepper):
                stepper.close()
