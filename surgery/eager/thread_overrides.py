"""Temporary overrides of names in torch and in the user's modules, for one thread only.

An assignment to ``torch.zeros`` holds for the whole process. So each override checks the thread: the thread that made
it calls the replacement, and all others call the original. No other thread ever receives a proxy.
"""

from __future__ import annotations

import functools
import os
import threading
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Override = tuple[Any, str, Any]
"""A namespace (a module, a class, or a dict of names), a name in it, and the name's value while it is overridden."""

_lock = threading.RLock()
_undo: list[Callable[[], None]] = []
"""For each override in force, the function that restores the name; the last override is the last entry."""
_owner = 0
"""The thread that made the overrides."""


@contextmanager
def lock_global_state() -> Iterator[None]:
    """Hold the lock on the global state within the block, after waiting for threads that hold it.

    Overrides are assignments for all threads, and all threads share torch's random generator. Code that overrides names
    or seeds the generator holds this lock.
    """
    lock = _lock
    with lock:
        yield


def override_in_this_thread(
    namespace: Any, name: str, replacement: Callable[..., Any], original: Callable[..., Any] | None = None
) -> Override:
    """Return an override that calls `replacement` in the current thread, and the original in all others.

    `original` is the name's current value if the namespace does not return it unchanged, as for a `staticmethod` or a
    builtin.
    """
    if original is None:
        original = getattr(namespace, name)
    unchanged, thread = original, get_ident()

    @functools.wraps(unchanged)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (replacement if get_ident() == thread else unchanged)(*args, **kwargs)

    return namespace, name, call


@contextmanager
def override_names(overrides: Iterable[Override]) -> Iterator[None]:
    """Within the block, the overrides are in force. All names are restored after it, even after an error."""
    global _owner  # noqa: PLW0603
    depth = len(_undo)
    with lock_global_state():
        try:
            _owner = get_ident()
            for namespace, name, value in overrides:
                _undo.append(_restorer(namespace, name))
                _assign(namespace, name, value)
            yield
        finally:
            _restore_to(depth)


def _restore_to(depth: int) -> None:
    """Undo all overrides but the first `depth`."""

    def undo() -> None:
        while len(_undo) > depth:
            _undo[-1]()
            _undo.pop()

    run_uninterrupted(undo)


def run_uninterrupted(step: Callable[[], object]) -> None:
    """Run a step to its end, even if `KeyboardInterrupt` arrives meanwhile; the interrupt is raised afterwards.

    An interrupted step starts again, so it must be repeatable.
    """
    interrupt: BaseException | None = None
    is_done = False
    while not is_done:
        try:
            step()
            is_done = True
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _restorer(namespace: Any, name: str) -> Callable[[], None]:
    """Return a function that gives a name the value that it has now, or removes it if it has none."""
    names = namespace if isinstance(namespace, dict) else vars(namespace)
    if name in names:
        return functools.partial(_assign, namespace, name, names[name])
    return functools.partial(_remove, namespace, name)


def _assign(namespace: Any, name: str, value: Any) -> None:
    if isinstance(namespace, dict):
        namespace[name] = value
    else:
        setattr(namespace, name, value)


def _remove(namespace: Any, name: str) -> None:
    if isinstance(namespace, dict):
        namespace.pop(name, None)
    elif name in vars(namespace):
        delattr(namespace, name)


def _after_fork() -> None:
    """Restore names and the lock in a forked process: the thread that would do so does not exist there."""
    global _lock  # noqa: PLW0603
    if _owner != get_ident():
        _lock = threading.RLock()
        _restore_to(0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
