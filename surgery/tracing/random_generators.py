"""The random generators of Python and numpy, from which a model may draw numbers that no graph records."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.eager import find_mutating_line, generator_states

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from surgery.eager import GeneratorStates


def has_drawn_since(states: GeneratorStates) -> bool:
    """Return whether numbers were drawn from one of the generators, by any thread, since `states` were read."""
    return _comparable(generator_states()) != _comparable(states)


def _comparable(states: GeneratorStates) -> tuple[Any, ...]:
    """Return states as values that `==` compares: numpy's has an array."""
    name, keys, *rest = states[1]
    return states[0], name, bytes(keys), *rest


def find_drawing_line(run: Callable[[], object]) -> tuple[str, int] | None:
    """Return the user's line in which this thread draws from one of the generators while `run` runs.

    None if no line does. Other threads draw from the same generators; while some run, only code that names a
    function of `random` is considered.
    """
    is_single_threaded = threading.active_count() == 1

    def may_draw(code: CodeType) -> bool:
        names_generator = "numpy" not in code.co_filename and bool(_DRAWING_NAMES & {*code.co_names})
        return is_single_threaded or names_generator

    return find_mutating_line(lambda: _comparable(generator_states()), run, among=may_draw)


_DRAWING_NAMES = {name for module in (random, np.random) for name in dir(module) if name[0].islower()}
