"""Tracing in one thread does not affect other threads of the process."""

from __future__ import annotations

import _thread
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.eager import thread_overrides as overrides
from surgery.errors import TraceError


class Busy(nn.Module):
    """Uses everything that is overridden while a model is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(6))
        self.register_buffer("calls", torch.zeros(()))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        self.calls: Tensor
        self.calls += 1
        for layer in self.layers:
            with torch.autocast("cpu", enabled=False):
                x = self.drop(layer(x)) + torch.zeros(4, 1, 1) + torch.arange(4).view(4, 1, 1)
        return x if isinstance(x, Tensor) and torch.is_tensor(x) else x * 0


@contextmanager
def others(*works: Callable[[], Any]) -> Iterator[Counter[str]]:
    """Within the block, other threads work; count their errors and values of wrong types."""
    stop, wrong = threading.Event(), Counter[str]()

    def go(work: Callable[[], Any]) -> None:
        while not stop.is_set():
            try:
                time.sleep(0.0005)  # the thread that traces has to get on
                found = work()
                if type(found) not in (Tensor, float, torch.Size):
                    wrong[f"{type(found).__name__}"] += 1
            except Exception as error:  # noqa: BLE001
                wrong[f"{type(error).__name__}: {error}"] += 1

    threads = [threading.Thread(target=go, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_other_threads_never_see_a_proxy_while_one_traces() -> None:
    model, running, x = Busy().eval(), Busy().eval(), torch.randn(1, 4, 4, 4)
    works: list[Callable[[], Any]] = [
        *(partial(torch.zeros, 3), partial(running, x), lambda: running.layers[0].weight.shape, random.random),
        *(lambda: running.get_parameter("layers.0.weight").detach(), lambda: torch.manual_seed(0) and torch.rand(2)),
        *(lambda: torch.rand(3), lambda: float(np.random.rand())),  # noqa: NPY002
    ]
    with others(*works) as wrong:
        for _ in range(3):
            traced = surgery.trace(model, x)
            surgery.trace(model)
    assert not wrong
    assert [operation.kind for operation in surgery.operations(traced)].count("conv2d") == 6


def test_several_threads_may_trace_at_once() -> None:
    model, x, failed = Busy(), torch.randn(1, 4, 4, 4), []
    found: list[list[str]] = []

    def trace() -> None:
        try:
            found.append([operation.path for operation in surgery.operations(surgery.trace(model, x))])
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=trace) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(found) == 4
    assert all(paths == found[0] for paths in found)


def test_random_numbers_of_other_threads_are_not_taken_for_the_models() -> None:
    x = torch.randn(1, 4, 4, 4)
    with others(random.random, lambda: float(np.random.rand()), lambda: torch.rand(3)):  # noqa: NPY002
        for _ in range(3):
            surgery.trace(Busy(), x)


class Drawing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * random.random()  # noqa: S311


def test_random_numbers_of_the_model_are_found_while_other_threads_draw() -> None:
    with others(lambda: torch.rand(3)), pytest.raises(TraceError, match="random numbers are drawn"):
        surgery.trace(Drawing(), torch.randn(1, 4, 4, 4), front_end="symbolic")


class Alternating(nn.Module):
    """Does something else in each third run, so that two comparisons of its runs can be different."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = {"runs": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.seen["runs"] += 1
        return x * 2 if self.seen["runs"] % 3 == 0 else x


def count_in_a_class(x: Tensor) -> Tensor:
    """Do something else in each seventh run."""
    Counted.runs += 1
    return x * 2 if Counted.runs % 7 == 0 else x + 1


class Counted(nn.Module):
    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        return count_in_a_class(x)


@pytest.mark.parametrize("net", [Alternating, Counted])
def test_a_number_that_every_run_changes_is_found_while_other_threads_work(net: type[nn.Module]) -> None:
    with (
        others(lambda: torch.Size([1])),
        pytest.raises(TraceError, match=r"every run of the model|second run|differ"),
    ):
        surgery.trace(net(), torch.randn(1, 4, 4, 4), front_end="symbolic")


def replaced() -> list[object]:
    """Return the current values of names that tracing overrides."""
    names = ("zeros", "arange", "is_tensor", "manual_seed", "rand", "is_grad_enabled")
    return [
        *(getattr(torch, name) for name in names),
        *(getattr(nn.Module, name) for name in ("__call__", "__getattr__", "__setattr__", "get_parameter")),
        *(torch.autocast.__enter__, torch.inference_mode.__exit__, torch.autograd.Function.apply, sys.gettrace()),
        *(torch.nn.utils.parametrize.cached, "isinstance" in globals(), torch.is_grad_enabled()),
        torch.overrides._get_current_function_mode(),
    ]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one in a callback of Python's own
@pytest.mark.xdist_group("timing")
def test_an_interrupt_at_any_moment_leaves_nothing_replaced() -> None:
    model, x, before, interrupted = Busy(), torch.randn(1, 4, 4, 4), replaced(), 0
    usual = signal.signal(signal.SIGALRM, lambda *_: _thread.interrupt_main())
    usual_interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # workers of pytest-xdist ignore it
    try:
        for step in range(40):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + step * 0.0017)
                surgery.trace(model, x)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            assert replaced() == before
            assert not overrides._undo
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
        signal.signal(signal.SIGINT, usual_interrupt)
    assert interrupted > 10
    assert not list(model.layers[0]._forward_hooks)
    surgery.trace(model, x)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_while_another_thread_traces_can_trace() -> None:
    model, before = Busy(), replaced()
    inside, go_on = threading.Event(), threading.Event()

    class Waiting(Busy):
        def forward(self, x: Tensor) -> Tensor:
            inside.set()
            go_on.wait(20)
            return super().forward(x)

    thread = threading.Thread(target=lambda: surgery.trace(Waiting()))
    thread.start()
    assert inside.wait(20)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            status = 0 if replaced() == before and surgery.trace(model) is not None else 2
        finally:
            os._exit(status)
    go_on.set()
    thread.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert replaced() == before


def test_tracing_within_inference_mode_gives_what_the_model_gives() -> None:
    model, x = Busy().eval(), torch.randn(1, 4, 4, 4)
    with torch.inference_mode():
        traced = surgery.trace(model, x)
        assert torch.equal(traced(x), model(x))
    assert torch.equal(traced(x), model(x))
    assert traced(x).requires_grad
