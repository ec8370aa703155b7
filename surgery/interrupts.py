"""Ctrl-C: raised at once where a step may be cut off, held where it has to be completed, never taken for another error.

Python runs the handler of SIGINT in the main thread between two instructions, wherever that thread is. A library that
is called there may turn KeyboardInterrupt into an error of its own, or forget it.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_HELD = 3
"""Presses of Ctrl-C that may be held. The next ends even a step that has to be completed."""


class Interrupts:
    """What Ctrl-C does within `watch_interrupts`."""

    def __init__(self, usual: Callable[[int, Any], Any], *, held: bool) -> None:
        self.received = False
        """Whether KeyboardInterrupt was raised, or will be after what is held."""
        self._usual = usual
        self._is_raised_once = held
        self._is_held = held
        self._held_count = 0

    def hold(self) -> None:
        """Hold Ctrl-C from now on: what follows has to be completed."""
        self._is_held = True

    def allow(self) -> None:
        """Let Ctrl-C raise KeyboardInterrupt from now on, and raise the one that is held or that was raised before."""
        if self.received or self._held_count:
            self._is_held = True
            raise KeyboardInterrupt
        self._is_held = False

    def check(self) -> None:
        """Raise the KeyboardInterrupt that is held, or go on to hold it."""
        self.allow()
        self.hold()

    @property
    def is_waiting(self) -> bool:
        """Whether Ctrl-C was pressed while it was held."""
        return self._held_count > 0

    @property
    def is_urgent(self) -> bool:
        """Whether Ctrl-C was pressed more than once while it was held."""
        return self._held_count > 1

    def _handle(self, number: int, frame: Any) -> None:
        if self._is_held and self._held_count < MAX_HELD:
            self._held_count += 1
            return
        was_held, self._is_held = self._is_held, self._is_held or self._is_raised_once
        try:
            self._usual(number, frame)
        except KeyboardInterrupt:
            self.received = True
            raise
        self._is_held = was_held  # a handler of the caller's own, which raised nothing

    def _finish(self) -> None:
        """Call the usual handler for what was held, and note the interrupt that it raises."""
        if self._held_count:
            with suppress(KeyboardInterrupt):
                self._usual(signal.SIGINT, None)
                return
            self.received = True


@contextmanager
def watch_interrupts(*, held: bool = False) -> Iterator[Interrupts]:
    """Yield what says whether Ctrl-C was pressed within the block, and what can hold it.

    With `held`, it is held until `allow` is called. Then the first raises KeyboardInterrupt, and those after it are
    held again, so that what cleans up is completed. After the block nothing is raised for what was held; `received`
    tells it. Without effect in another thread than the main one, which is never interrupted, and where SIGINT is
    ignored.
    """
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual) or threading.current_thread() is not threading.main_thread():
        yield Interrupts(signal.default_int_handler, held=held)
        return
    interrupts = Interrupts(usual, held=held)
    signal.signal(signal.SIGINT, interrupts._handle)  # noqa: SLF001
    try:
        yield interrupts
    finally:
        if signal.getsignal(signal.SIGINT) == interrupts._handle:  # noqa: SLF001 - else the block has set another
            signal.signal(signal.SIGINT, usual)
        interrupts._finish()  # noqa: SLF001


@contextmanager
def raising_interrupts() -> Iterator[None]:
    """Within the block, an interrupt that a library turns into an error of its own, or forgets, stays an interrupt."""
    with watch_interrupts() as interrupts:
        try:
            yield
        except Exception as error:
            if interrupts.received:
                raise KeyboardInterrupt from error
            raise
        if interrupts.received:
            raise KeyboardInterrupt
