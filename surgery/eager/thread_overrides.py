"""Names of torch and of the user's modules that mean something else for a while, in one thread.

A replaced name is seen by the whole process. So every replacement holds for the thread that made it, and does in all
others what the original does: no other thread is ever given a proxy.
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
"""A namespace (a module, a class, or a dict of names), a name in it, and what the name means instead."""

_lock = threading.RLock()
_undo: list[Callable[[], None]] = []
"""What puts back the names that are replaced at the moment, the last one last."""
_owner = 0
"""The thread that replaced them."""


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other thread is in such a block.

    Names are replaced for all threads, and they share torch's random generator: what replaces the former or seeds the
    latter is done by one thread at a time.
    """
    lock = _lock
    with lock:
        yield


def in_this_thread(original: Callable[..., Any], replacement: Callable[..., Any]) -> Callable[..., Any]:
    """`replacement` in the thread that asks for it, and `original` in all others."""
    thread = get_ident()

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (replacement if get_ident() == thread else original)(*args, **kwargs)

    return call


@contextmanager
def overridden(overrides: Iterable[Override]) -> Iterator[None]:
    """Within the block, names mean something else. All are put back, whatever ends the block."""
    global _owner  # noqa: PLW0603
    depth = len(_undo)
    with one_at_a_time():
        try:
            _owner = get_ident()
            for home, name, value in overrides:
                _undo.append(_putting_back(home, name))
                _put(home, name, value)
            yield
        finally:
            _put_back(depth)


def _put_back(depth: int) -> None:
    """Undo all but the first `depth`."""

    def undo() -> None:
        while len(_undo) > depth:
            _undo[-1]()
            _undo.pop()

    uninterrupted(undo)


def uninterrupted(step: Callable[[], object]) -> None:
    """Do something that may be begun again; an interrupt waits until it is done."""
    interrupt: BaseException | None = None
    done = False
    while not done:
        try:
            step()
            done = True
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _putting_back(home: Any, name: str) -> Callable[[], None]:
    names = home if isinstance(home, dict) else vars(home)
    if name in names:
        return functools.partial(_put, home, name, names[name])
    return functools.partial(_take_away, home, name)


def _put(home: Any, name: str, value: Any) -> None:
    if isinstance(home, dict):
        home[name] = value
    else:
        setattr(home, name, value)


def _take_away(home: Any, name: str) -> None:
    if isinstance(home, dict):
        home.pop(name, None)
    elif name in vars(home):
        delattr(home, name)


def _after_fork() -> None:
    """In the forked process there is no thread to put back what another one had replaced, or to release the lock."""
    global _lock  # noqa: PLW0603
    if _owner != get_ident():
        _lock = threading.RLock()
        _put_back(0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
