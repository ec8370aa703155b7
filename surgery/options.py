"""Options of a stage: the fields of a dataclass, set from text such as ``columns=8,gap=2``."""

from __future__ import annotations

import sys
import types
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from surgery.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a stage."""

    name: str
    wanted: str
    """What it takes, in words: ``a whole number or none``."""
    value: Any
    """What it is where nothing is said."""


def options_of(stage: object) -> list[Option]:
    """The options of a stage, in order; none of what is no dataclass."""
    if not is_dataclass(stage) or isinstance(stage, type):
        return []
    hints = _hints(stage)
    return [
        Option(option.name, _wanted(hints[option.name]), getattr(stage, option.name, MISSING))
        for option in fields(stage)
        if option.init
    ]


def configured(name: str, stage: Any, text: str) -> Any:
    """A stage, called `name`, with those of its options set that the text says.

    Raises PluginError for a text that can't be read so, and what the stage itself raises for a value that it refuses.
    """
    names = [option.name for option in options_of(stage)]
    if not names:
        raise PluginError(f"{name} takes no options")
    hints = _hints(stage)
    changes: dict[str, Any] = {}
    for option in text.split(","):
        key, equals, value = (part.strip() for part in option.partition("="))
        if not equals:
            raise PluginError(f"options of {name} are written name=value, not {option!r}")
        if key not in names:
            near = did_you_mean(key, names)
            raise PluginError(f"no option of {name} is called {key!r}; it takes {', '.join(names)}{near}")
        changes[key] = _converted(name, key, value, hints[key])
    return replace(stage, **changes)


def _hints(stage: Any) -> dict[str, Any]:
    kind = type(stage)
    try:
        return typing.get_type_hints(kind, vars(sys.modules[kind.__module__]))
    except NameError as error:  # imported under TYPE_CHECKING alone
        raise PluginError(f"the types of {kind.__name__}'s options can't be read: {error}") from error


def _converted(name: str, option: str, text: str, hint: Any) -> Any:
    for candidate, _ in _alternatives(hint):
        try:
            return candidate(text)
        except (ValueError, KeyError):
            continue
    raise PluginError(f"{option} of {name} takes {_wanted(hint)}, not {text!r}")


def _wanted(hint: Any) -> str:
    return " or ".join(wanted for _, wanted in _alternatives(hint))


def _alternatives(hint: Any) -> Iterator[tuple[Callable[[str], Any], str]]:
    """Each way to read a value of this type from text, and its name."""
    if get_origin(hint) in (typing.Union, types.UnionType):
        for part in get_args(hint):
            yield from _alternatives(part)
    elif get_origin(hint) is Literal:
        choices = {str(choice): choice for choice in get_args(hint)}
        yield choices.__getitem__, ", ".join(choices)
    elif hint is type(None):
        yield {"none": None, "": None}.__getitem__, "none"
    elif hint is bool:
        yield (
            {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.__getitem__,
            "true or false",
        )
    elif hint is int:
        yield int, "a whole number"
    elif hint is float:
        yield float, "a number"
    else:
        yield str, "text"
